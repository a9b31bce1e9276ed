"""`bahu serve`: the gallery, the questions and the making of pictures as a local web app, with an API under `/api/v1`.

    create_app(ServerConfig(folders=(Path("Pictures"),)))        an ASGI application

A thin layer: `library` and `searching` put pages of pictures together from the index, `looking` classifies, `jobs`
queues what takes long and `worker` does it in another process, `events` tells open pages of it, `safety` stands before
all of that, and `routes` gives each its address. The server process never imports PyTorch.
"""

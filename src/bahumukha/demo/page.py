"""One HTML page of all results: pictures beside them, no scripts, nothing from a network.

Everything that is not written here is escaped; pictures are linked relative to the page. Readable without
colours (numbers stand beside bars), in light and dark, and on a phone.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from html import escape
from urllib.parse import quote

from bahumukha.demo.making import Made
from bahumukha.demo.photos import Photo
from bahumukha.demo.style import CSS
from bahumukha.demo.tour import GENERATOR, LABELS, LEDGER, PHOTOS, Demo, Guess, Search, Similar

_DEFAULT_MODEL = "starter/clip"


def render(demo: Demo) -> str:
    """The page as text."""
    parts = (_intro, _lesson, _searches, _similar, _guesses, _made, _credits)
    sections = [part(demo) for part in parts]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{GENERATOR}
<title>Bahumukha: words and pictures</title>
<style>
{CSS}</style>
</head>
<body>
<main>
{"".join(sections)}</main>
</body>
</html>
"""


# -- sections ------------------------------------------------------------------------------------------------


def _intro(demo: Demo) -> str:
    return f"""<header>
<h1>Words and pictures</h1>
<p>Bahumukha looked at {len(demo.photos)} photographs with the model <b>{escape(demo.model)}</b>, on this
computer, without a network. Nobody told it what they show: all answers below come from comparing each picture
with sentences. The commands run in the folder of this page.</p>
</header>
"""


def _lesson(demo: Demo) -> str:
    if not demo.lesson:
        return ""
    labels = " ".join(shlex.quote(label) for label in demo.tour.lesson)
    asked = ", ".join(escape(label) for label in demo.tour.lesson)
    command = f"bahu classify {_files(demo.lesson)} --label {labels} --template '{{}}'{_model(demo)}"
    return f"""<section aria-labelledby="lesson">
<h2 id="lesson">Which of these is in the picture?</h2>
<p>Each picture is compared with {asked}, and the three probabilities add up to 100%.</p>
<div class="cards wide">
{_cards(demo.lesson)}</div>
{_command(command)}</section>
"""


def _searches(demo: Demo) -> str:
    queries = "".join(_query(demo, search) for search in demo.searches)
    return f"""<section aria-labelledby="search">
<h2 id="search">Find my pictures of …</h2>
<p>The nearest pictures to each sentence, best first, with the cosine of the angle between the two. What does
not stand out from the rest is faded: <code>--cutoff auto</code> leaves it away, even all of it.</p>
{queries}</section>
"""


def _query(demo: Demo, search: Search) -> str:
    rows = [
        _figure(photo, f"{place}. {score:.3f}", faded=place > search.standing_out)
        for place, (photo, score) in enumerate(search.found, 1)
    ]
    note = "" if search.standing_out else '<p class="note">Nothing stands out for this sentence.</p>\n'
    command = f"bahu search {shlex.quote(search.query)} {PHOTOS} --db {LEDGER} --top {demo.tour.top} --cutoff auto"
    return f"""<article>
<h3>“{escape(search.query)}”</h3>
{note}<div class="row">
{"".join(rows)}</div>
{_command(command)}</article>
"""


def _similar(demo: Demo) -> str:
    if not demo.similar:
        return ""
    return f"""<section aria-labelledby="similar">
<h2 id="similar">More like this one</h2>
{"".join(_alike(demo, each) for each in demo.similar)}</section>
"""


def _alike(demo: Demo, similar: Similar) -> str:
    found = "".join(_figure(photo, f"{score:.3f}") for photo, score in similar.found)
    command = f"bahu similar {_file(similar.photo)} {PHOTOS} --db {LEDGER} --top {demo.tour.top}"
    return f"""<article>
<h3>{escape(similar.photo.name)}</h3>
<div class="row">
{_figure(similar.photo, "this one", chosen=True)}{found}</div>
{_command(command)}</article>
"""


def _guesses(demo: Demo) -> str:
    command = f"bahu classify {PHOTOS} --labels {LABELS} --top 3{_model(demo)}"
    return f"""<section aria-labelledby="classify">
<h2 id="classify">What is in each picture?</h2>
<p>The three best of {len(demo.tour.labels)} labels: {escape(", ".join(demo.tour.labels))}.</p>
<div class="cards">
{_cards(demo.guesses)}</div>
{_command(command)}</section>
"""


def _made(demo: Demo) -> str:
    if not demo.made:
        return ""
    return f"""<section aria-labelledby="made">
<h2 id="made">Pictures from sentences</h2>
{"".join(_making(demo, each) for each in demo.made)}</section>
"""


def _making(demo: Demo, made: Made) -> str:
    alt = escape(made.making.sentence)
    pictures = "".join(
        f'<figure><img src="{quote(path.relative_to(demo.folder).as_posix())}" alt="{alt}"></figure>\n'
        for path in made.pictures
    )
    return f"""<article>
<h3>“{escape(made.making.sentence)}”</h3>
<p class="note">{escape(made.making.how)}</p>
<div class="row made">
{pictures}</div>
{_command(made.making.command)}</article>
"""


def _credits(demo: Demo) -> str:
    lines = "".join(
        f"<li><b>{escape(photo.name)}</b>: {escape(photo.shows)}. {escape(photo.author)}, "
        f"{escape(photo.licence)}. <small>From {_prose(photo.source)}. {_prose(photo.statement)}</small></li>\n"
        for photo in demo.photos
    )
    return f"""<footer>
<h2 id="credits">The photographs</h2>
<ul>
{lines}</ul>
</footer>
"""


# -- parts ---------------------------------------------------------------------------------------------------


def _cards(guesses: Iterable[Guess]) -> str:
    return "".join(
        f'<div class="card">\n{_image(guess.photo)}<ol class="bars">\n{_bars(guess)}</ol>\n</div>\n'
        for guess in guesses
    )


def _bars(guess: Guess) -> str:
    return "".join(
        f'<li><span>{escape(label.label)}</span> <span class="number">{label.probability:.1%}</span>'
        f'<span class="bar" aria-hidden="true"><i style="width:{100 * label.probability:.1f}%"></i></span></li>\n'
        for label in guess.labels
    )


def _figure(photo: Photo, caption: str, *, faded: bool = False, chosen: bool = False) -> str:
    kind = ' class="faded"' if faded else ' class="chosen"' if chosen else ""
    hidden = '<span class="unseen"> (does not stand out)</span>' if faded else ""
    return f"<figure{kind}>{_image(photo)}<figcaption>{escape(caption)}{hidden}</figcaption></figure>\n"


def _image(photo: Photo) -> str:
    return f'<img src="{quote(f"{PHOTOS}/{photo.name}")}" alt="{escape(photo.shows)}">\n'


def _command(command: str) -> str:
    return f"<pre><code>{escape(command)}</code></pre>\n"


def _prose(text: str) -> str:
    """Escaped, with Markdown's `code` as HTML's."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _model(demo: Demo) -> str:
    return "" if demo.model == _DEFAULT_MODEL else f" --model {shlex.quote(demo.model)}"


def _file(photo: Photo) -> str:
    return shlex.quote(f"{PHOTOS}/{photo.name}")


def _files(guesses: Sequence[Guess]) -> str:
    return " ".join(_file(guess.photo) for guess in guesses)

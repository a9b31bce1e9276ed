"""`bahu generate --with unclip`, `vary`, `blend`, `edit`, `inpaint` and `explore` as a user and a script see them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bahumukha.cli import unclip as work
from bahumukha.generate import change_config, variations
from bahumukha.images import open_image
from tests.cli.painting import made, pixels
from tests.tiny_karlo import make_karlo
from tests.tiny_unclip import make_unclip_folder

QUICK = ("--set", "prior.steps=2", "--set", "upsampler.steps=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_unclip_folder(tmp_path_factory.mktemp("unclip"))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """One thread, an empty folder to work in."""
    monkeypatch.setenv("BAHUMUKHA_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(bahu: Any, folder: Path, tiny_clip: Path) -> Any:
    """A command with the tiny models, in few steps."""

    def run(command: str, *arguments: object, ranking: object = tiny_clip) -> Any:
        system = ["--with", "unclip", "--set", f"ranking={ranking}"] if command == "generate" else []
        return bahu(command, *arguments, *system, "--steps", 3, *QUICK, "--set", f"model={folder}")

    return run


def picture(name: str = "cat.png", size: tuple[int, int] = (40, 30), seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(name)
    return Path(name)


def mask(name: str = "mask.png", size: tuple[int, int] = (40, 30)) -> Path:
    page = np.zeros((size[1], size[0]), np.uint8)
    page[5:20, 10:25] = 255
    Image.fromarray(page).save(name)
    return Path(name)


# --- generate


def test_the_best_of_the_candidates_best_first(run: Any, folder: Path) -> None:
    ran = run("generate", "a red fish", "-n", 3, "--set", "candidates=18", "--seed", 5, "--json")
    assert ran.code == 0, ran.err
    assert [list(each) for each in ran.objects] == [["path", "seed", "seconds", "score"]] * 3
    scores = [each["score"] for each in ran.objects]
    assert scores == sorted(scores, reverse=True)
    every = run("generate", "a red fish", "-n", 18, "--seed", 5, "--json", "--out", "all")
    of_seed = {each["seed"]: each["score"] for each in every.objects}
    assert set(of_seed) == set(range(5, 23)), "two batches of candidates, each with its own seed"
    assert sorted(of_seed.values(), reverse=True)[:3] == pytest.approx(scores, abs=1e-3)
    assert pixels(ran.objects[0]["path"]).shape == (16, 16, 3), "enlarged"


def test_a_picture_holds_what_makes_it_again(run: Any, bahu: Any, folder: Path, tiny_clip: Path) -> None:
    ran = run("generate", "a red fish", "--style", "noto", "-n", 2, "--out", "two.png", "--json", "--set",
              "decoder.sampler=heun", "--set", "decoder.guidance=3", "--size", "24x16")  # fmt: skip
    assert ran.code == 0, ran.err
    assert [Path(each["path"]).name for each in ran.objects] == ["two.png", "two-2.png"]
    assert Path("two-sheet.png").exists() and pixels("two.png").shape == (16, 24, 3)
    for each in ran.objects:
        inside = made(each["path"])
        assert (inside["command"], inside["with"]) == ("generate", "unclip")
        assert inside["models"] == {
            str(folder): "prior 3 steps, decoder 5 steps, upsampler 6 steps",
            str(folder.parent / "clip"): "tiny-0",
            str(tiny_clip): "tiny-0",
        }
        settings = inside["settings"]
        assert (settings["prompt"], settings["style"], settings["decoder"]["steps"]) == ("a red fish", "noto", 3)
        assert (settings["seed"], settings["pictures"], settings["candidates"]) == (each["seed"], 1, 1)
        again = bahu("generate", "--config", each["path"], "--out", "again.png", "--json")
        assert again.code == 0 and again.object["seed"] == each["seed"], again.err
        assert np.abs(pixels("again.png").astype(int) - pixels(each["path"])).max() <= 1


def test_style_prior_upsampler_and_sampler_matter(run: Any, folder: Path) -> None:
    shown: dict[str, np.ndarray] = {}
    for name, more in {
        "plain": [],
        "style": ["--style", "noto"],
        "tokens": ["--set", f"prior_model={folder.parent / 'tokens'}"],
        "guided": ["--set", "decoder.guidance=6"],
    }.items():
        ran = run("generate", "a cat", "-n", 1, "--out", f"{name}.png", *more, ranking="")
        assert ran.code == 0, ran.err
        shown[name] = pixels(f"{name}.png")
    assert all((shown["plain"] != shown[name]).any() for name in ("style", "tokens", "guided"))
    assert run("generate", "a cat", "-n", 1, "--out", "small.png", "--set", "upsample=false").code == 0
    assert pixels("small.png").shape == (8, 8, 3)
    assert "upsampler" not in made("small.png")["models"][str(folder)]


def test_a_video_has_a_frame_for_each_step(run: Any) -> None:
    av = pytest.importorskip("av")
    ran = run("generate", "a cat", "-n", 2, "--video", "cats.mp4", "--out", "cats.png", ranking="")
    assert ran.code == 0, ran.err
    with av.open("cats.mp4") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 3 + 2 + 8, "the decoder's, the upsampler's, and the last one held"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no PROMPT; say what to show"),
        ([" "], "PROMPT: prompt is empty"),
        (["a", "--drawer", "fft"], "--drawer: belongs to --with vqgan-clip"),
        (["a", "--style", "woodcut"], "style: 'woodcut' was given"),
        (["a", "--size", "18x16"], "size: 18x16 was given; it takes multiples of 4 from 4 up"),
        (["a", "--set", "decoder.sampler=best"], "decoder.sampler is 'best'; it must be one of"),
        (["a", "--set", "decoder.guidance=-1"], "scale: -1.0 was given"),
        (["a", "--set", "prior_model=nowhere"], "no model 'nowhere'"),
        (["a", "--set", "candidates=3"], "candidates is 3; it must be from 9, the pictures kept"),
    ],
)
def test_what_is_wrong_is_one_line(run: Any, arguments: list[str], message: str) -> None:
    ran = run("generate", *arguments)
    assert ran.code == 1 and message in ran.err and ran.err.count("\n") == 1
    assert list(Path.cwd().iterdir()) == []


def test_no_steps_at_all_and_no_weights(bahu: Any) -> None:
    ran = bahu("generate", "a", "--with", "unclip", "--steps", 0)
    assert ran.code == 1 and "--steps: [decoder] steps: 0 was given" in ran.err
    ran = bahu("generate", "a", "--with", "unclip", "--set", "model=nowhere")
    assert ran.code == 1 and "no model 'nowhere'" in ran.err and ran.err.count("\n") == 1
    ran = bahu("vary", picture(), "--set", "model=nowhere")
    assert ran.code == 1 and "no model 'nowhere'" in ran.err and ran.err.count("\n") == 1


# --- given pictures


def test_variations_each_with_a_seed(run: Any, bahu: Any, folder: Path) -> None:
    ran = run("vary", picture(), "-n", 2, "--far", 0.5, "--seed", 4, "--json")
    assert ran.code == 0, ran.err
    assert [each["seed"] for each in ran.objects] == [4, 5] and "sheet" in ran.err
    for each in ran.objects:
        assert each["score"] == each["likeness"][0] and Path(each["path"]).parent == Path("varied")
        inside = made(each["path"])
        assert (inside["command"], inside["settings"]["far"], inside["settings"]["pictures"]) == ("vary", 0.5, 1)
        assert inside["settings"]["picture"] == str(Path("cat.png").absolute())
        assert bahu("vary", "--config", each["path"], "--out", "again.png").code == 0
        assert np.abs(pixels("again.png").astype(int) - pixels(each["path"])).max() <= 1
    wrong = bahu("generate", "--config", ran.objects[0]["path"])
    assert wrong.code == 1 and "was made by bahu vary; take that command" in wrong.err
    wrong = bahu("blend", "--config", ran.objects[0]["path"])
    assert wrong.code == 1 and "was made by bahu vary" in wrong.err


def test_how_far_is_said_in_one_number(run: Any) -> None:
    smooth = Image.new("RGB", (8, 8), (200, 60, 60))
    smooth.paste((60, 60, 200), (2, 2, 6, 6))
    smooth.save("cat.png")
    away = {}
    for far in (0, 1):
        ran = run("vary", "cat.png", "-n", 1, "--far", far, "--out", f"{far}.png", "--set", "upsample=false",
                  "--set", "decoder.steps=12")  # fmt: skip
        assert ran.code == 0, ran.err
        away[far] = np.abs(pixels(f"{far}.png").astype(int) - np.asarray(smooth)).mean()
    assert away[0] < away[1] / 3


def test_a_blend_is_a_strip(run: Any, bahu: Any) -> None:
    options = ("-n", 3, "--json", "--seed", "tea")
    ran = run("blend", picture(), picture("dog.png", seed=1), *options)
    assert ran.code == 0, ran.err
    assert [each["share"] for each in ran.objects] == [0, 0.5, 1] and len(ran.objects[0]["likeness"]) == 2
    names = [Path(each["path"]).name for each in ran.objects]
    assert names == ["cat-dog-tea-1.png", "cat-dog-tea-2.png", "cat-dog-tea-3.png"]
    assert made(ran.objects[1]["path"])["place"] == 1
    again = bahu("blend", "--config", ran.objects[1]["path"], "--out", "again.png", "--json")
    assert [Path(each["path"]).name for each in again.objects] == ["again.png", "again-2.png", "again-3.png"]
    assert all((pixels(a["path"]) == pixels(b["path"])).all() for a, b in zip(again.objects, ran.objects, strict=True))
    own = run("blend", "cat.png", "dog.png", "-n", 3, "--own-noise", "--out", "own.png")
    assert own.code == 0 and (pixels("own.png") != pixels("again.png")).any()


def test_edits_by_strength(run: Any) -> None:
    ran = run("edit", picture(), "a cat", "a lion", "--strength", 0.1, "--strength", 0.9, "--json", "--out", "e.png")
    assert ran.code == 0, ran.err
    assert [each["strength"] for each in ran.objects] == [0.1, 0.9] and (pixels("e.png") != pixels("e-2.png")).any()
    inside = made("e-2.png")["settings"]
    assert (inside["source"], inside["target"], inside["strengths"]) == ("a cat", "a lion", [0.1, 0.9])


def test_explore_keeps_axes_or_moves_along_one(run: Any) -> None:
    ran = run("explore", picture(), "--keep", 1, "--keep", 16, "--json")
    assert ran.code == 0, ran.err
    assert [each["axes"] for each in ran.objects] == [1, 16]
    moved = run("explore", "cat.png", "--axis", 2, "--amount=-2", "--amount", 2, "--json")
    assert [(each["axis"], each["amount"]) for each in moved.objects] == [(2, -2), (2, 2)]
    assert (pixels(moved.objects[0]["path"]) != pixels(moved.objects[1]["path"])).any()


@pytest.mark.parametrize("size", [(40, 30), (9, 31), (64, 64)])
def test_what_the_mask_leaves_dark_is_bit_for_bit_the_picture(run: Any, size: tuple[int, int]) -> None:
    given = np.asarray(open_image(picture(size=size)))
    page = np.zeros((size[1], size[0]), np.uint8)
    page[3:20, 2:7] = 255
    Image.fromarray(page).save("mask.png")
    ran = run("inpaint", "cat.png", "mask.png", "a red hat", "-n", 2, "--json")
    assert ran.code == 0, ran.err
    drawn = [pixels(each["path"]) for each in ran.objects]
    assert all((each[page == 0] == given[page == 0]).all() for each in drawn)
    assert all((each[page > 0] != given[page > 0]).any() for each in drawn) and (drawn[0] != drawn[1]).any()


def test_odd_pictures_are_read_as_everywhere(run: Any) -> None:
    """Transparent, turned by EXIF, 16 bits deep, and one with a transparent hole as its own mask."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 4), np.uint8)
    noise[..., 3] = 255
    noise[4:12, 4:12, 3] = 0
    Image.fromarray(noise).save("hole.png")
    turned = Image.fromarray(noise[..., :3])
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save("turned.jpg", exif=exif)
    Image.fromarray(np.linspace(0, 65535, 640).reshape(20, 32).astype(np.uint16)).save("deep.png")
    Image.fromarray((noise[..., 3] == 0).astype(np.uint8) * 255).save("mask.png")
    for name in ("hole.png", "turned.jpg", "deep.png"):
        ran = run("vary", name, "-n", 1, "--json")
        assert ran.code == 0, ran.err
    mask = open_image("mask.png")
    mask.transpose(Image.Transpose.ROTATE_270).save("upright.png")
    for name, mask_name in {"hole.png": "mask.png", "deep.png": "mask.png", "turned.jpg": "upright.png"}.items():
        ran = run("inpaint", name, mask_name, "a cat", "-n", 1, "--json")
        assert ran.code == 0, ran.err
        dark = np.asarray(open_image(mask_name))[..., 0] < 128
        assert (pixels(ran.object["path"])[dark] == np.asarray(open_image(name))[dark]).all()
    black = noise.copy()
    black[..., :3] = 0
    Image.fromarray(black).save("alpha.png")
    ran = run("inpaint", "hole.png", "alpha.png", "a cat", "-n", 1, "--json")
    assert ran.code == 0, "what is transparent in a mask is drawn"
    closed = noise[..., 3] > 0
    assert (pixels(ran.object["path"])[closed] == np.asarray(open_image("hole.png"))[closed]).all()


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("vary", [], "no IMAGE; give it, as bahu vary cat.png"),
        ("vary", ["gone.png"], "gone.png: there is no such file"),
        ("vary", ["cat.png", "--far", "2"], "--far: far is 2.0; it takes a number from 0"),
        ("vary", ["cat.png", "-n", "0"], "-n: pictures is 0; it must be from 1 to 64"),
        ("vary", ["cat.png", "--out", "a.jpg"], "--out a.jpg: a folder, or a file that ends in .png"),
        ("blend", ["cat.png"], "no B; give it, as bahu blend cat.png dog.png"),
        ("blend", ["cat.png", "cat.png", "-n", "1"], "-n: pictures is 1; it must be from 2 to 64"),
        ("edit", ["cat.png", "a cat"], "no TO; give it, as bahu edit cat.png 'a cat' 'a lion'"),
        ("edit", ["cat.png", "a cat", "a cat"], "edit: 'a cat' and 'a cat' say the same"),
        ("edit", ["cat.png", "a", "b", "--strength", "3"], "--strength: strengths is [3.0]; it takes numbers from 0"),
        ("inpaint", ["cat.png", "mask.png", " "], "PROMPT: prompt is empty"),
        ("inpaint", ["cat.png", "large.png", "a"], "large.png has 41x30 pixels, and "),
        ("inpaint", ["cat.png", "black.png", "a"], "mask: shows nothing to draw"),
        ("inpaint", ["cat.png", "gone.png", "a"], "gone.png: there is no such file"),
        ("explore", ["cat.png", "--keep", "99"], "keep: [99] was given; it takes numbers of axes from 1 to 16"),
        ("explore", ["cat.png", "--axis", "16"], "axis: 16 was given; it takes a number from 0 to 15"),
        ("explore", ["cat.png", "--amount", "1"], "--amount goes with --axis"),
    ],
)
def test_what_is_wrong_with_a_change_is_one_line(run: Any, command: str, arguments: list[str], message: str) -> None:
    picture()
    mask()
    mask("large.png", (41, 30))
    Image.new("L", (40, 30)).save("black.png")
    before = {path.name for path in Path.cwd().iterdir()}
    ran = run(command, *arguments)
    assert ran.code == 1 and message in ran.err and ran.err.count("\n") == 1, ran.err
    assert {path.name for path in Path.cwd().iterdir()} == before


def test_too_large_to_inpaint_at_once(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_config, "MOST_OPEN_PIXELS", 2_000)
    ran = run("inpaint", picture(), mask(), "a", "-n", 2)
    assert ran.code == 1 and "pictures: 2 of 40x30 pixels are too many at once" in ran.err
    assert run("inpaint", "cat.png", "mask.png", "a", "-n", 1).code == 0


def test_ctrl_c_keeps_nothing_of_a_strip(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = change_config.VaryConfig.steps

    def steps(self: Any, *args: Any, **options: Any) -> Any:
        for step in real(self, *args, **options):
            os.kill(os.getpid(), signal.SIGINT)
            yield step

    monkeypatch.setattr(change_config.VaryConfig, "steps", steps)
    ran = run("vary", picture())
    assert ran.code == 130 and "nothing is kept" in ran.err and ran.out == ""
    assert [path.name for path in Path.cwd().iterdir()] == ["cat.png"]


@pytest.mark.parametrize(
    ("command", "rest"),
    [("blend", ["cat.png", "-n", "7"]), ("explore", [f"--keep={axes}" for axes in (1, 2, 4, 8, 16)])],
)
def test_ctrl_c_keeps_what_is_finished_of_a_strip(
    run: Any, monkeypatch: pytest.MonkeyPatch, command: str, rest: list[str]
) -> None:
    """Four of them are drawn before the others are begun, and they are those of the whole strip."""
    whole = run(command, picture(), *rest, "--out", "whole", "--json")
    assert whole.code == 0, whole.err
    real, begun = variations.Strip.steps, []

    def steps(self: Any, *args: Any, **options: Any) -> Any:
        begun.append(args)
        for step in real(self, *args, **options):
            if step.index and len(begun) > 1:
                raise AssertionError("went on")
            if len(begun) > 1:
                os.kill(os.getpid(), signal.SIGINT)
            yield step

    monkeypatch.setattr(variations.Strip, "steps", lambda *a, **o: steps(*a, **o))
    ran = run(command, "cat.png", *rest, "--out", "part", "--json")
    total = len(whole.objects)
    assert ran.code == 130 and f"stopped after 4 of {total} pictures; they are kept" in ran.err
    assert len(ran.objects) == 4 < total
    for before, after in zip(whole.objects, ran.objects, strict=False):
        assert np.array_equal(np.asarray(Image.open(before["path"])), np.asarray(Image.open(after["path"])))
    assert len(list(Path("part").glob("*-sheet.png"))) == 1


def test_one_clip_is_opened_once(folder: Path) -> None:
    config = work.UnclipConfig("a", model=str(folder), ranking=str(folder.parent / "clip"))
    artist = work.UnclipArtist(config)
    assert artist.ranking is artist.unclip.encoder


# --- bahu models unclip, and Karlo


def test_trained_networks_become_one_model(run: Any, bahu: Any, folder: Path, data_home: Path) -> None:
    runs = [Path("runs") / part for part in ("prior", "decoder", "upsampler")]
    for each in runs:
        shutil.copytree(folder / each.name, each / "model")
    (runs[0] / "model/card.md").write_text(
        "---\nlicence: CC0-1.0\nsummary: Guesses.\n---\n# a prior\n\n## Data\n\nnone\n"
    )
    ran = bahu("models", "unclip", *runs, "--name", "mine/unclip", "--json")
    assert (ran.code, ran.err) == (0, "") and ran.object["name"] == "mine/unclip"
    target = data_home / "models/mine/unclip"
    assert ran.object["folder"] == str(target)
    card = bahu("models", "show", "mine/unclip", "--json").object
    assert card["kind"] == "unclip" and card["licence"] == "CC0-1.0 and not stated" and "Guesses" in card["summary"]
    options = ("-n", 1, "--with", "unclip", "--steps", 3, *QUICK, "--set", "ranking=")
    drawn = bahu("generate", "a cat", *options, "--set", "model=mine/unclip", "--out", "one.png")
    assert drawn.code == 0, drawn.err
    assert run("generate", "a cat", "-n", 1, "--out", "same.png", ranking="").code == 0
    assert np.array_equal(pixels("one.png"), pixels("same.png"))

    again = bahu("models", "unclip", *runs, "--name", "mine/unclip")
    assert again.code == 1 and "--replace" in again.err and again.err.count("\n") == 1
    small = bahu("models", "unclip", folder / "prior", folder / "decoder", "--out", "small")
    assert small.code == 0 and "--set model=small" in small.out and not Path("small/upsampler").exists()
    swapped = bahu("models", "unclip", folder / "decoder", folder / "prior", "--out", "wrong")
    assert swapped.code == 1 and "'kind' is 'decoder'; the prior is a 'prior' model" in swapped.err
    config = json.loads((runs[1] / "model/config.json").read_text())
    (runs[1] / "model/config.json").write_text(json.dumps(config | {"fingerprint": "another"}))
    other = bahu("models", "unclip", *runs, "--out", "wrong")
    assert other.code == 1 and "take parts of one CLIP" in other.err and not Path("wrong").exists()


def test_karlo_is_imported_and_draws(bahu: Any, data_home: Path, tiny_clip: Path) -> None:
    make_karlo(Path("karlo"))
    ran = bahu("models", "import", "karlo", "--name", "public/karlo")
    assert ran.code == 0, ran.err
    assert "try: bahu generate 'a red fox in the snow' --with unclip -n 1 --set model=public/karlo" in ran.out
    folder = data_home / "models/public/karlo"
    weights = "decoder/diffusion_pytorch_model.safetensors"
    assert (folder / weights).stat().st_size == (Path("karlo") / weights).stat().st_size
    shown = bahu("models", "show", "public/karlo", "--json").object
    assert shown["kind"] == "karlo" and "decoder: " in shown["card"] and "GB" in shown["card"]
    quick = ("--steps", 3, "--set", "prior.steps=3", "--set", "upsampler.steps=3", "--set", f"ranking={tiny_clip}")
    pictures = []
    for model in ("public/karlo", "karlo"):
        drawn = bahu("generate", "sea", "--with", "unclip", *quick, "--set", f"model={model}", "--seed", 4, "--json",
                     "--out", f"{model.replace('/', '-')}.png")  # fmt: skip
        assert drawn.code == 0, drawn.err
        pictures.append(pixels(drawn.object["path"]))
    assert pictures[0].shape == (32, 32, 3) and np.array_equal(*pictures)
    again = bahu("generate", "--config", "karlo.png", "--out", "again.png")
    assert again.code == 0 and np.array_equal(pixels("again.png"), pictures[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["models", "import", "karlo", "--precision", "int8"],
            "--precision is for CLIP models; karlo is taken for Karlo",
        ),
        (["vary", "cat.png", "--set", "model=karlo"], "karlo: a Karlo draws sentences"),
        (["generate", "a", "--with", "unclip", "--style", "noto", "--set", "model=karlo"], "knows no styles"),
        (["generate", "a", "--with", "unclip", "--size", "64x64", "--set", "model=karlo"], "size: Karlo draws"),
        (["models", "import", "torn"], "torn: prior_scheduler is missing"),
    ],
)
def test_what_karlo_cannot_do_is_one_line(bahu: Any, arguments: list[str], message: str) -> None:
    picture()
    parts = ["text_encoder", "prior", "text_proj", "decoder", "super_res_first", "super_res_last", "tokenizer"]
    schedulers = ["prior_scheduler", "decoder_scheduler", "super_res_scheduler"]
    for name, kept in (("karlo", parts + schedulers), ("torn", parts)):
        for part in kept:
            (Path(name) / part).mkdir(parents=True)
        (Path(name) / "model_index.json").write_text("{}")
    for part in schedulers:
        (Path("karlo") / part / "scheduler_config.json").write_text("{}")
    ran = bahu(*arguments)
    assert ran.code == 1 and message in ran.err and ran.err.count("\n") == 1, ran.err

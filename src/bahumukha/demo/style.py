"""How the page looks: one column of light or dark paper, pictures in even tiles, faded where they do not count."""

from __future__ import annotations

CSS = """\
:root {
  --paper: #fbfaf7; --card: #ffffff; --ink: #22211e; --faint: #68655e; --line: #e2dfd6;
  --accent: #a5421b; --bar: #d98a5f; --track: #efece4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #191816; --card: #242320; --ink: #eceae4; --faint: #aaa69b; --line: #3a3833;
    --accent: #f0a27c; --bar: #c1683c; --track: #35332e;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif;
}
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: clamp(1.9rem, 5vw, 2.8rem); line-height: 1.15; margin: 1rem 0 .75rem; letter-spacing: -.015em; }
h2 { font-size: 1.45rem; line-height: 1.25; margin: 3.5rem 0 .5rem; }
h3 { font-size: 1.1rem; margin: 2rem 0 .6rem; overflow-wrap: anywhere; }
p { max-width: 44rem; margin: .5rem 0 1rem; }
.note, small, figcaption { color: var(--faint); }
.note { margin: 0 0 .6rem; }
img { display: block; width: 100%; aspect-ratio: 4 / 3; object-fit: cover; background: var(--track); }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; }
figure { margin: 0; }
figure img { border-radius: .5rem; }
figcaption { font-size: .9rem; padding-top: .25rem; font-variant-numeric: tabular-nums; }
.chosen img { outline: 3px solid var(--accent); outline-offset: -3px; }
.chosen figcaption { color: var(--accent); font-weight: 600; }
.faded img { opacity: .45; filter: saturate(.4); }
.row.made { grid-template-columns: repeat(auto-fill, minmax(8.5rem, 13rem)); }
.row.made img { aspect-ratio: 1; border-radius: .5rem; background: #fff; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1rem; }
.cards.wide { grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; overflow: hidden; }
.bars { list-style: none; margin: 0; padding: .7rem .9rem .9rem; }
.bars li { display: grid; grid-template-columns: 1fr auto; gap: 0 .75rem; font-size: .92rem; margin-top: .3rem; }
.bars li:first-child { font-weight: 600; margin-top: 0; }
.number { font-variant-numeric: tabular-nums; }
.bar { grid-column: 1 / -1; height: .4rem; background: var(--track); border-radius: .2rem; overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--bar); }
pre {
  margin: .8rem 0 0; padding: .55rem .8rem; background: var(--track); border-radius: .4rem;
  font-size: .84rem; white-space: pre-wrap; overflow-wrap: anywhere;
}
pre::before { content: "$ "; color: var(--faint); }
code { font-family: ui-monospace, "Cascadia Code", Menlo, "DejaVu Sans Mono", monospace; }
footer { border-top: 1px solid var(--line); margin-top: 4rem; }
footer h2 { margin-top: 2rem; }
footer ul { padding-left: 1.1rem; font-size: .9rem; }
footer li { margin: .5rem 0; overflow-wrap: anywhere; }
.unseen {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}
@media (max-width: 40rem) { .row { grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); } }
"""

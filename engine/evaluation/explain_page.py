"""HTML page of an explanation."""

from html import escape

from earlybird.engine.evaluation.explain import Explanation, Pass

COLOURS = ("#b3413c", "#8a8a8a", "#2f7d4f")  # negative, neutral, positive
_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}td,th{padding:.35rem .6rem;text-align:left;border-bottom:1px solid #ddd}
td.n{text-align:right;font-variant-numeric:tabular-nums}.bar{display:flex;height:1rem;width:14rem}
tr.exit{background:#fff6d6}tr.late{opacity:.45}.words span{padding:0 .15rem;border-radius:.2rem}"""


def page(found: Explanation) -> str:
    """Return the page: per pass a probability bar and the words shaded by attention."""
    rows = "\n".join(_row(found, each) for each in found.passes)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{escape(found.text[:80])}</title><style>{_STYLE}</style>
<h1>{escape(found.text)}</h1>
<p>Exit after pass {found.exit_layer} of {len(found.passes)} under <code>{escape(found.policy)}</code>. Faded passes are
never computed in the stage; they show what would have come. Margin: how far the decision is from another one. Window:
what the rule has counted in a row, of what it needs. Words are shaded by the attention they got so far.</p>
<table><tr><th>pass<th>negative, neutral, positive<th>entropy<th>margin<th>window<th>words<th></tr>
{rows}
</table></html>
"""


def _row(found: Explanation, each: Pass) -> str:
    kind = "exit" if each.exits else "late" if each.layer > found.exit_layer else ""
    shares = zip(each.probs, COLOURS, strict=True)
    bar = "".join(f'<div style="width:{share:.1%};background:{colour}"></div>' for share, colour in shares)
    numbers = ", ".join(f"{share:.3f}" for share in each.probs)
    margin = "&ndash;" if each.distance == float("inf") else f"{each.distance:.3f}"
    most = max(each.attention, default=0.0) or 1.0
    words = " ".join(
        f'<span style="background:rgba(255,180,0,{share / most:.2f})">{escape(word)}</span>'
        for word, share in zip(found.words, each.attention, strict=True)
    )
    return (
        f'<tr class="{kind}"><td class="n">{each.layer}<td><div class="bar" title="{numbers}">{bar}</div>{numbers}'
        f'<td class="n">{each.entropy:.3f}<td class="n">{margin}<td class="n">{each.window}'
        f'<td class="words">{words}<td>{escape(each.reason)}</tr>'
    )

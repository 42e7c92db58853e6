"""The usage card as one page: figures, charts and tables, with nothing to be loaded or run."""

import sys
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

import pygal
from pygal.style import Style

from store.usage import Sums, UsageCard

# The library leaves a finder for its plugins behind, of a kind that Python warns about at every
# import that finds nothing; we have no plugins.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]

_OWN, _PLATFORM, _UNPAID = "#2f855a", "#2b6cb0", "#a0aec0"

_STYLE = Style(
    background="transparent",
    plot_background="transparent",
    foreground="#2d3748",
    foreground_strong="#1a202c",
    foreground_subtle="#718096",
    guide_stroke_color="#cbd5e0",
    major_guide_stroke_color="#cbd5e0",
    colors=(_OWN, _PLATFORM, _UNPAID),
    font_family="system-ui, sans-serif",
    label_font_size=11,
    major_label_font_size=11,
    legend_font_size=12,
    title_font_size=15,
    value_font_size=11,
)

_SHEET = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1a202c; background: #fff; margin: 2rem auto;
  max-width: 64rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
dl { display: flex; flex-wrap: wrap; gap: 1rem; }
dl div { background: #f7fafc; border: 1px solid #e2e8f0; border-radius: .5rem;
  padding: .6rem 1rem; }
dt { color: #718096; font-size: .85rem; } dd { margin: 0; font-size: 1.25rem; }
figure { margin: 1rem 0; } figure svg { width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; color: #718096; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #e2e8f0; text-align: right; }
th:first-child, td:first-child { text-align: left; }
"""


def page(account: str, timezone: str, days: int, card: UsageCard) -> str:
    """One self-contained HTML page. Its policy forbids scripts and whatever lies elsewhere."""
    window = f"{card.first_day} to {card.last_day}"
    body = (
        f"<p>No AI operation in the last {days} days.</p>"
        if card.empty
        else "\n".join((_figures(card), *_charts(card), *_tables(card)))
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>AI usage of {escape(account)}, {window}</title>
<style>{_SHEET}</style>
</head>
<body>
<h1>AI usage of {escape(account)}</h1>
<p>{window}, by the time zone {escape(timezone)}</p>
{body}
</body>
</html>
"""


def _figures(card: UsageCard) -> str:
    shown = [
        ("Operations", f"{card.total.operations:,}"),
        ("Total cost", f"${card.total.cost_usd:.6f}"),
        ("Tokens used", f"{card.total.tokens:,}"),
    ]
    if card.byok_share is not None:
        shown.append(("BYOK share", f"{card.byok_share:.0%}"))
    shown += [(f"On {name}", f"{share:.0%}") for name, share in card.provider_distribution.items()]
    if card.total.unpriced_calls:
        shown.append(("Calls without a known price", f"{card.total.unpriced_calls:,}"))
    pairs = (f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in shown)
    return f"<dl>{''.join(pairs)}</dl>"


def _charts(card: UsageCard) -> Iterable[str]:
    yield _by_day(
        card,
        "Operations a day",
        "operations",
        lambda sums: (sums.byok_operations, sums.platform_operations, sums.unpaid_operations),
    )
    yield _by_day(
        card,
        "Cost a day, in dollars",
        "cost",
        lambda sums: (sums.byok_cost_nano_usd / 1e9, sums.platform_cost_nano_usd / 1e9),
    )
    shares = card.provider_distribution
    if shares:
        chart = pygal.HorizontalBar(
            **_look("Provider distribution, % of operations", height=130 + 40 * len(shares)),
            show_legend=False,
            print_values=True,
            range=(0, 100),
        )
        chart.x_labels = list(shares)
        chart.add("share", [round(100 * share, 1) for share in shares.values()])
        yield _figure("distribution", chart)


def _by_day(
    card: UsageCard, title: str, name: str, split: Callable[[Sums], Sequence[float]]
) -> str:
    chart = pygal.StackedBar(
        **_look(title, height=320),
        x_label_rotation=30,
        show_minor_x_labels=False,
        x_labels_major_count=10,
        spacing=6,
    )
    chart.x_labels = list(card.by_day)
    values = [split(sums) for sums in card.by_day.values()]
    for number, series in enumerate(zip(*values, strict=True)):
        chart.add(("own keys", "platform", "no call")[number], list(series))
    return _figure(name, chart)


def _look(title: str, *, height: int) -> dict[str, Any]:
    return {
        "title": title,
        "style": _STYLE,
        "width": 960,
        "height": height,
        "js": (),
        "legend_at_bottom": True,
        "disable_xml_declaration": True,
    }


def _figure(name: str, chart: Any) -> str:
    return f'<figure id="{name}">{_without_script(chart.render(is_unicode=True))}</figure>'


def _without_script(svg: str) -> str:
    """The drawing without what the library adds for its own tooltips, which need its script."""
    start, end = svg.find("<script"), svg.find("</script>")
    return svg if start < 0 or end < 0 else svg[:start] + svg[end + len("</script>") :]


def _tables(card: UsageCard) -> Iterable[str]:
    names = {"byok": "own keys", "platform": "platform", "none": "no call"}
    yield _table("Who paid", [(names.get(k, k), v) for k, v in card.by_credential.items()])
    yield _table("By operation", list(card.by_operation.items()))
    yield _table(
        "By model", [(f"{model} ({provider})", v) for (provider, model), v in card.by_model.items()]
    )
    yield _table(
        "Day by day", [(day, v) for day, v in card.by_day.items() if v.calls or v.operations]
    )


def _table(title: str, rows: Sequence[tuple[str, Sums]]) -> str:
    if not rows:
        return ""
    head = "".join(
        f"<th>{name}</th>" for name in ("", "operations", "own keys", "platform", "tokens", "cost")
    )
    lines = "".join(
        f"<tr><td>{escape(name)}</td><td>{sums.operations:,}</td><td>{sums.byok_operations:,}</td>"
        f"<td>{sums.platform_operations:,}</td><td>{sums.tokens:,}</td>"
        f"<td>${sums.cost_usd:.6f}</td></tr>"
        for name, sums in rows
    )
    return f"<h2>{title}</h2><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"

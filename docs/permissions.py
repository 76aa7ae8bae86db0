"""Kafka permissions that each command needs; the documentation's table is made of it, and a test runs them."""

RAW = ("news.raw", "tweets.raw")
OUTPUTS = ("signals", "signals.control", "raw.dlq")
RECORDS = (*RAW, "signals", "raw.dlq")
VIEWS = (
    "earlybird-views-by-symbol", "earlybird-views-items-changelog", "earlybird-views-symbols-changelog",
    "views.sentiment",
)  # fmt: skip

PERMISSIONS: dict[str, tuple[dict[str, tuple[str, ...]], str]] = {
    "run": ({"Read": RAW, "Write": OUTPUTS, "Read on group": ("earlybird",)}, ""),
    "run exactly_once": (
        {
            "Read": RAW,
            "Write": OUTPUTS,
            "Read on group": ("earlybird",),
            "Write on transactionalId": ("earlybird-*",),
        },
        "`delivery` is `exactly_once`; the id is `group`-`instance`, here by prefix",
    ),
    "topics create": (
        {"Create": (*RAW, *OUTPUTS), "Describe": (*RAW, *OUTPUTS), "AlterConfigs": RAW},
        "AlterConfigs: only for `--keep-raw` where the raw topics exist",
    ),
    "topics show": ({"Describe": (*RAW, *OUTPUTS), "DescribeConfigs": ("signals",)}, ""),
    "feed": ({"Write": RAW, "DescribeConfigs": RAW}, "DescribeConfigs: not with `--timestamps now`"),
    "pull": ({"Write": RAW}, ""),
    "views": (
        {
            "Read": ("signals", *VIEWS),
            "Write": VIEWS,
            "Create": VIEWS,
            "Read on group": ("earlybird-views",),
        },
        "Create: not after `topics create --views`",
    ),
    "say": ({"Write": ("news.raw",), "Read": ("signals", "raw.dlq")}, "with `--tweet` Write on tweets.raw"),
    "signals": ({"Read": ("signals", "raw.dlq")}, "with `--raw` Read on the raw topics, too"),
    "audit": (
        {"Read": RECORDS, "Describe on group": ("earlybird",)},
        "Describe on group: else a backlog counts as missing",
    ),
    "dlq list": ({"Read": ("raw.dlq",)}, ""),
    "dlq redrive": ({"Read": ("raw.dlq", *RAW), "Write": RAW}, ""),
    "archive": ({"Read": RECORDS}, ""),
    "replay recorded": ({"Read": ("signals", "raw.dlq")}, "none with `--archive`"),
    "replay recompute": (
        {"Read": RECORDS},
        "none with `--archive`; `--format topic`: Create and Write on the new topics",
    ),
    "strategy": ({"Read": ("signals", "signals.control")}, "in a group: Read on the group"),
}
"""Command -> operation -> names, and a remark. Read and Write include Describe; `*` at the end: by prefix."""

"""Coverage-guided fuzzing of the ladder, outside of the test run.

    pip install atheris
    python packages/llm-pipeline/fuzz/ladder.py -max_total_time=120 -max_len=2000

Any exception out of a pipeline is a crash, and so is a text that takes more than a second
(libFuzzer's own ``-timeout`` adds to that).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["llm_pipeline"]):
    from llm_pipeline import (  # noqa: F401 - to be instrumented
        ConvertToDict,
        ExtractValue,
        Pipeline,
        StripFences,
        StripThinking,
        grammar,
        ladder,
        open_ended,
        relaxed,
    )

PIPELINE = Pipeline(
    [
        StripThinking(on_error="skip"),
        StripFences(),
        ConvertToDict(),
        ExtractValue("$..a", many=True, default=[]),
    ]
)
SECONDS_ALLOWED = 1.0


def try_one(data: bytes) -> None:
    """Run the pipeline on one input; raises if it raises or dawdles."""
    text = data.decode("utf-8", "surrogateescape")
    started = time.process_time()
    PIPELINE.run_sync(text)
    spent = time.process_time() - started
    if spent > SECONDS_ALLOWED:
        raise TimeoutError(f"{spent:.1f} s for {len(text)} characters")


def seeds(folder: Path) -> None:
    """Write the texts of the nasty table as seeds, one file each."""
    import yaml

    tables = Path(__file__).parents[1] / "tests" / "nasty"
    for table in tables.glob("*.yaml"):
        for number, row in enumerate(yaml.safe_load(table.read_text(encoding="utf-8"))):
            if row.get("text"):
                seed = row["text"].encode("utf-8", "surrogateescape")
                (folder / f"{table.stem}-{number}").write_bytes(seed)


def main() -> None:
    """Fuzz with libFuzzer's options from the command line; the first folder named is the corpus."""
    corpora = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    if corpora:
        corpora[0].mkdir(parents=True, exist_ok=True)
        seeds(corpora[0])
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

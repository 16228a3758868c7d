"""`llm-service run`: a file of requests, answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llm_core import InvalidValue, LLMError, Value, immutable
from llm_service.cli.answering import Answering
from llm_service.cli.batch_ledger import BatchLedger
from llm_service.cli.console import tell
from llm_service.cli.interrupts import Interrupted, interrupts_raised
from llm_service.cli.journal import Journal
from llm_service.cli.options import (
    Number,
    Text,
    config_option,
    env_file_option,
    limit_options,
    model_option,
    quiet_option,
)
from llm_service.cli.progress import run_progress
from llm_service.cli.request_file import FileFormat, RequestFile
from llm_service.cli.settings import CommandSettings
from llm_service.service import BaseLLMService

if TYPE_CHECKING:
    from llm_service.cli.batching import Batching

__all__ = ["run"]

_IN_FLIGHT = 8
"""How many requests are in flight at once where nothing says it."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@model_option
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file for the results, one JSON object a line.",
)
@click.option(
    "--order",
    type=click.Choice(["input", "finished"]),
    default="input",
    show_default=True,
    help="The order of OUTPUT: that of FILE, or as answers came.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["jsonl", "csv"]),
    help="What FILE is; without this its ending decides.",
)
@click.option(
    "--template",
    type=Text(),
    help='The user\'s text from columns: "What is the capital of {country}?"',
)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=1),
    help="How many requests may be in flight at once.  [default: the configuration's limit, or 8]",
)
@limit_options
@click.option(
    "--attempts", type=click.IntRange(min=1), help="How often to try each request, at most."
)
@click.option("--restart", is_flag=True, help="Forget earlier answers and begin anew.")
@click.option("--retry-failed", is_flag=True, help="Send what failed in an earlier run again.")
@click.option(
    "--drain",
    "drain_seconds",
    type=Number(min=0),
    default=30.0,
    show_default=True,
    help="Seconds that calls in flight get to finish when the run is stopped.",
)
@click.option("--batch", is_flag=True, help="Use the vendor's batch API: half price, within 24 h.")
@click.option(
    "--batch-size",
    type=click.IntRange(1, 50_000),
    default=10_000,
    show_default=True,
    help="Requests in one batch, at most.",
)
@click.option(
    "--poll",
    "poll_seconds",
    type=Number(min=0.01),
    default=60.0,
    show_default=True,
    help="Seconds between looks at a batch.",
)
@config_option
@env_file_option
@quiet_option
def run(**options: Any) -> int:
    """Answer every request of FILE: JSON lines, or CSV with a header.

    An object or row holds fields of GenerationRequest, such as user, system and
    model; with --template it may hold anything. Results are whole
    GenerationResults; request.metadata.input_line says what each answers.

    OUTPUT appears when the last answer is there. Until then OUTPUT.journal
    keeps every finished one: after Ctrl-C or kill -9 the same command goes on
    from there and repeats nothing that had finished; after a power cut, what
    finished in its last second may be sent again. If a line has changed since
    it was answered, the command refuses and names it. Lines added at the end
    are answered too.

    With --batch the vendor answers within a day, at half the price; stopped and
    started again, the command goes on waiting for the same batches.

    Ctrl-C, SIGTERM and a terminal that closes (SIGHUP) let the calls in flight
    finish, see --drain; a second Ctrl-C stops at once, and so does the first
    while FILE is read or OUTPUT is written. Under nohup the run goes
    on without its terminal. Limits that change in the configuration file are
    taken over within seconds; SIGHUP sent by kill does it at once, and without
    such a file stops the run like SIGTERM.

    Exit code: 0 all answered, 1 some failed (the result says why), 2 not
    carried out, 130 interrupted (143 by SIGTERM, 129 by SIGHUP).
    """
    return _run(RunOptions(**{**options, "output": _place_of(options["output"])}))


@immutable
class RunOptions(Value):
    """What was asked for on the command line."""

    file: Path
    model: str | None
    output: Path
    order: str
    file_format: FileFormat | None
    template: str | None
    concurrency: int | None
    max_rpm: int | None
    max_tpm: int | None
    attempts: int | None
    restart: bool
    retry_failed: bool
    drain_seconds: float
    batch: bool
    batch_size: int
    poll_seconds: float
    config_file: Path | None
    env_file: str
    quiet: bool

    def settings(self) -> CommandSettings:
        """Return the configuration with these options above it."""
        return CommandSettings(
            self.config_file,
            env_file=self.env_file,
            model=self.model,
            max_rpm=self.max_rpm,
            max_tpm=self.max_tpm,
            max_concurrent_requests=self.concurrency,
            attempts=self.attempts,
        )

    def say(self, text: str) -> None:
        """Tell on stderr how it goes, unless it is to be quiet."""
        if not self.quiet:
            tell(text)


@dataclass(slots=True)
class _Stage:
    """Where a run stands, and what happens next if it is stopped there."""

    words: str


def _run(options: RunOptions) -> int:
    if options.output.exists() and options.output.samefile(options.file):
        raise click.UsageError(
            f"{options.output}: is the input, too; the answers need a file of their own"
        )
    settings = options.settings()
    source = _source(options, settings)
    stage = _Stage(
        f"while reading {options.file}, before anything was sent; the same command starts again"
    )
    # What has changed in the file is noticed as soon as calls are under way.
    reload = (lambda: None) if settings.has_file and not options.batch else None
    with interrupts_raised(reload=reload):
        try:
            return _carry_out(options, settings, source, stage)
        except Interrupted as stop:
            tell(f"stopped {stage.words}")
            return 128 + stop.number
        except OSError as error:
            place = error.filename or options.output
            # What had finished is in the journal, if it came to that.
            on = _goes_on(options) if Journal(options.output).path.is_file() else ""
            raise click.ClickException(
                f"{place}: cannot be written: {error.strerror or error}{on}"
            ) from None


def _source(options: RunOptions, settings: CommandSettings) -> RequestFile:
    if options.file.exists() and not (options.file.is_file() or options.file.is_dir()):
        raise click.ClickException(
            f"{options.file}: a device or pipe, expected the name of a file, which is read twice"
        )
    try:
        return RequestFile(
            options.file,
            file_format=options.file_format,
            template=options.template,
            settings=settings.find_model() or "",
        )
    except InvalidValue as error:
        raise click.UsageError(str(error)) from None


def _carry_out(
    options: RunOptions, settings: CommandSettings, source: RequestFile, stage: _Stage
) -> int:
    output = options.output
    with Journal.resume(output, restart=options.restart) as journal:
        if options.retry_failed and journal.index.tally.failed:
            journal.forget(lambda result: not result.get("success"))
        total = _check(source, journal, settings)
        if len(journal.index) == total and journal.is_published:
            options.say(f"{output}: holds all {total} answers; --restart asks anew")
        else:
            before, began = len(journal.index), time.monotonic()
            stopped_by = _answer(options, settings, source, journal, total, stage)
            seconds = time.monotonic() - began
            done = f"after {len(journal.index)} of {total}"
            if len(journal.index) < total:
                tell(f"stopped {done}{_goes_on(options)}")
                return 128 + stopped_by
            stage.words = f"{done}, while writing {output}{_goes_on(options)}"
            journal.publish(in_input_order=options.order == "input")
            stage.words = f"{done}; {output} holds them"
            BatchLedger(output).remove()
            for line in journal.index.tally.lines(total, seconds=seconds, before=before):
                options.say(line)
        if not journal.index.tally.failed:
            return 0
        tell(journal.index.tally.first_failure)
        options.say("--retry-failed sends again what failed")
        return 1


def _goes_on(options: RunOptions) -> str:
    without = " without --restart" if options.restart else ""
    return f"; the same command{without} goes on from there"


def _place_of(output: Path) -> Path:
    """Return where the output is to stand; raises click.ClickException if no file can."""
    if output.exists() and not output.is_file():
        # It would be read as an earlier output, and replaced by a file.
        raise click.ClickException(f"{output}: a device or pipe, expected the name of a file")
    # Of a link the file that it leads to is replaced, and the journal lies beside that.
    place = output.resolve() if output.is_symlink() else output
    if not place.parent.is_dir():
        raise click.ClickException(f"{output}: its folder does not exist")
    return place


def _check(source: RequestFile, journal: Journal, settings: CommandSettings) -> int:
    """Read the whole file once, so that what is wrong with it is said before anything is sent.

    Returns the number of its requests.
    """
    total = answered = 0
    has_default = settings.find_model() is not None
    for item in source:
        total += 1
        asked = item.request
        if not (has_default or asked.model or settings.find_model(asked.operation_name)):
            raise click.UsageError(
                f"{source.path}:{item.line}: no model: name one in the line, give -m MODEL, "
                "or set LLM_SERVICE_MODEL, or models.default in llm-service.yaml"
            )
        answered += journal.index.answers(item)
    if answered < len(journal.index):
        raise click.ClickException(
            f"{journal.index.path}: answers lines that {source.path} has no longer; "
            "--restart answers everything anew"
        )
    return total


def _answer(
    options: RunOptions,
    settings: CommandSettings,
    source: RequestFile,
    journal: Journal,
    total: int,
    stage: _Stage,
) -> int:
    """Answer what is missing; returns the signal that ended it early, or 0."""
    if len(journal.index) == total:
        return 0
    ledger = BatchLedger(options.output, restart=options.restart)
    if ledger.open_batches and not options.batch:
        raise click.ClickException(
            f"{ledger.path}: batches are under way; give --batch to collect them, or --restart"
        )
    with ExitStack() as around:
        update = around.enter_context(run_progress(journal.index.tally, total, quiet=options.quiet))
        work: Batching | Answering
        if options.batch:
            work = _batching(options, settings, source, journal, ledger, update)
        else:
            service = _service(settings)
            reload = around.enter_context(settings.limits_followed_by(service))
            work = _answering(options, settings, service, source, journal, update, reload)
        journal.open()
        try:
            asyncio.run(work.run())
        finally:
            # For a signal that comes before the work listens for itself, or after.
            stage.words = f"after {len(journal.index)} of {total}{_goes_on(options)}"
    return work.stopped_by or 0


def _service(settings: CommandSettings) -> BaseLLMService:
    # An open breaker would answer the rest of the file with failures faster than the provider recovers.
    return settings.service(
        price_book=settings.price_book(),
        needs_model=False,
        max_concurrent_requests=_in_flight(settings),
        breaker=None,
    )


def _in_flight(settings: CommandSettings) -> int:
    return settings.config.limits.max_concurrent_requests or _IN_FLIGHT


def _answering(
    options: RunOptions,
    settings: CommandSettings,
    service: BaseLLMService,
    source: RequestFile,
    journal: Journal,
    update: Callable[[], None],
    reload: Callable[[], None] | None,
) -> Answering:
    def read_again() -> None:
        assert reload is not None, "there is a file"
        options.say("SIGHUP: the configuration is read again")
        reload()

    return Answering(
        service,
        source,
        journal,
        in_flight=_in_flight(settings),
        drain_seconds=options.drain_seconds,
        on_result=update,
        say=options.say,
        reload=None if reload is None else read_again,
    )


def _batching(
    options: RunOptions,
    settings: CommandSettings,
    source: RequestFile,
    journal: Journal,
    ledger: BatchLedger,
    update: Callable[[], None],
) -> Batching:
    from llm_service.cli.batching import Batching

    registry = settings.registry()
    default = settings.find_model()
    try:
        provider: Any = registry.resolve(default).provider if default is not None else None
        if hasattr(provider, "check"):
            provider.check()
    except LLMError as error:
        raise settings.refusal(error) from None
    return Batching(
        source,
        journal,
        ledger,
        model_of=settings.model,
        registry=registry,
        prices=settings.price_book(),
        batch_size=options.batch_size,
        poll_seconds=options.poll_seconds,
        on_result=update,
        say=options.say,
    )

"""Getting the data: ``hsa export-plan`` writes the queries down, ``hsa pull`` runs them on a server."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hs_analysis.cli.options import (
    GATES,
    INPUT,
    OUTPUT,
    STRICT_HELP,
    BoundsFlags,
    ConfigFlags,
    QuietFlags,
    grouped,
)
from hs_analysis.cli.output import Block, CommandOutput, Table, progress_listener, write_output
from hs_analysis.cli.tables import columns_of
from hs_analysis.errors import DataMissing, ManyErrors, UsageError
from hs_analysis.settings.file import resolve
from hs_analysis.settings.values import seconds, suggestion

if TYPE_CHECKING:
    from hs_analysis.collect.access import Access, Proof, Secret
    from hs_analysis.collect.backends import Backend
    from hs_analysis.collect.plan import Caller, Plan, PlanRequest
    from hs_analysis.pipeline.pull import Pulled, Wanted


SERVER = "Server"
URL_HELP = "Address of Prometheus, Thanos, Mimir or VictoriaMetrics; with or without /api/v1/…."

UrlFlag = Annotated[
    str,
    typer.Option(
        "--url", metavar="URL", envvar="HSA_URL", rich_help_panel=SERVER,
        help=URL_HELP,
    ),
]  # fmt: skip
BackendFlag = Annotated[
    Literal["prometheus", "amp", "gmp", "azure", "grafana-cloud", "mimir", "thanos", "victoriametrics"]
    | None,
    typer.Option(
        "--backend", rich_help_panel=SERVER, show_default=False,
        help="Whose limits the plan keeps to; the host's name tells amp, gmp, azure and grafana-cloud.",
    ),
]  # fmt: skip
RateFlag = Annotated[
    float,
    typer.Option(
        "--rate", metavar="N", min=0.01, rich_help_panel=SERVER, help="Queries per second, at most."
    ),
]
SamplesFlag = Annotated[
    int,
    typer.Option(
        "--max-samples", metavar="N", min=1, rich_help_panel=SERVER,
        help="Series × points of one query, at most, where the number of series is known.",
    ),
]  # fmt: skip
TimeoutFlag = Annotated[
    str,
    typer.Option(
        "--timeout", metavar="TIME", rich_help_panel=SERVER,
        help="Longest time of one request, its whole answer included. A request that takes longer is asked "
        "again in halves, a busy server up to 6 times; pull ends after 6 requests of a kind in a row that "
        "were not answered in time, or 24 in all.",
    ),
]  # fmt: skip


@dataclass(frozen=True)
class AccessFlags:
    """Who asks the server."""

    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", metavar="FILE", rich_help_panel=SERVER, show_default=False,
            help="File with the bearer token; or HSA_TOKEN.",
        ),
    ] = None  # fmt: skip
    token_command: Annotated[
        str | None,
        typer.Option(
            "--token-command", metavar="COMMAND", envvar="HSA_TOKEN_COMMAND", rich_help_panel=SERVER,
            show_default=False,
            help="Prints a bearer token, alone or in JSON: 'gcloud auth print-access-token'. Run without a "
            "shell, and again when the token expires or is refused.",
        ),
    ] = None  # fmt: skip
    sigv4_region: Annotated[
        str | None,
        typer.Option(
            "--sigv4-region", metavar="REGION", envvar="HSA_SIGV4_REGION", rich_help_panel=SERVER,
            show_default=False,
            help="Sign requests with the AWS credentials of this environment, for this region; needs the "
            "extra aws.",
        ),
    ] = None  # fmt: skip
    sigv4_service: Annotated[
        str | None,
        typer.Option(
            "--sigv4-service", metavar="NAME", rich_help_panel=SERVER, show_default=False,
            help="Service that is signed for: aps, for CloudWatch monitoring, unless said.",
        ),
    ] = None  # fmt: skip
    user: Annotated[
        str | None,
        typer.Option(
            "--user", metavar="NAME", envvar="HSA_USER", rich_help_panel=SERVER, show_default=False,
            help="User of basic authentication.",
        ),
    ] = None  # fmt: skip
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file", metavar="FILE", rich_help_panel=SERVER, show_default=False,
            help="File with the password; or HSA_PASSWORD.",
        ),
    ] = None  # fmt: skip
    tenant: Annotated[
        str | None,
        typer.Option(
            "--tenant", metavar="ID", envvar="HSA_TENANT", rich_help_panel=SERVER, show_default=False,
            help="Whose data; sent in --tenant-header.",
        ),
    ] = None  # fmt: skip
    tenant_header: Annotated[
        str,
        typer.Option(
            "--tenant-header", metavar="NAME", rich_help_panel=SERVER,
            help="Header of the tenant: Mimir's unless said; Thanos takes THANOS-TENANT.",
        ),
    ] = "X-Scope-OrgID"  # fmt: skip
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", metavar="FILE", rich_help_panel=SERVER, show_default=False,
            help="PEM file of the authority that signed the server's certificate.",
        ),
    ] = None  # fmt: skip
    client_cert: Annotated[
        Path | None,
        typer.Option(
            "--client-cert", metavar="FILE", rich_help_panel=SERVER, show_default=False,
            help="PEM file of the client's certificate.",
        ),
    ] = None  # fmt: skip
    client_key: Annotated[
        Path | None,
        typer.Option(
            "--client-key", metavar="FILE", rich_help_panel=SERVER, show_default=False,
            help="PEM file of its key, where the certificate's file does not hold it.",
        ),
    ] = None  # fmt: skip
    insecure: Annotated[
        bool,
        typer.Option("--insecure", rich_help_panel=SERVER, help="Do not check the server's certificate."),
    ] = False

    def access(self, backend: Backend) -> Access:
        """Return who asks a kind of server, with the credentials read from their files or the environment.

        Raises
        ------
        UsageError
            For files that can't be read or hold no credential, and for two ways to be let in at once.
        """
        from hs_analysis.collect.access import Access, header_name

        token = _credential(self.token_file, "--token-file", "HSA_TOKEN")
        password = _credential(self.password_file, "--password-file", "HSA_PASSWORD")
        ways = {
            "the token": token, "--token-command": self.token_command, "--sigv4-region": self.sigv4_region,
            "the user": self.user if self.user is not None else password,
        }  # fmt: skip
        if len(given := [name for name, value in ways.items() if value is not None]) > 1:
            raise UsageError(
                "are given together",
                where=" and ".join(given),
                hint="keep one way to be let in; HSA_TOKEN, HSA_USER and other such variables count, too",
            )
        return Access(
            token=token,
            user=self.user,
            password=password,
            proof=self._proof(backend),
            tenant=self.tenant,
            tenant_header=header_name(self.tenant_header),
            ca_file=path_text(self.ca_file),
            client_cert=path_text(self.client_cert),
            client_key=path_text(self.client_key),
            insecure=self.insecure,
        )

    def _proof(self, backend: Backend) -> Proof | None:
        from hs_analysis.collect.tokens import AwsSignature, TokenCommand

        if self.token_command is not None:
            return TokenCommand.of(self.token_command)
        service = self.sigv4_service or backend.signed_as
        return AwsSignature(self.sigv4_region, service) if self.sigv4_region else None

    def _token_word(self) -> str | None:
        """Return the shell word that gives the token when a command runs."""
        from hs_analysis.collect.tokens import TokenCommand

        if self.token_command is None:
            return shell_word(self.token_file, "HSA_TOKEN")
        return f"$({shlex.join(TokenCommand.of(self.token_command).words)})"

    def caller(self, url: str, backend: Backend) -> Caller:
        """Return who asks which server, as commands say it: credentials are named and not read.

        Raises
        ------
        UsageError
            For signatures, which are over one request each.
        """
        if self.sigv4_region:
            raise UsageError(
                "signs requests as they are sent", where="--sigv4-region",
                hint="use hsa pull, or let a signing proxy (aws-sigv4-proxy) run before the server",
            )  # fmt: skip
        from hs_analysis.collect.access import base_url, header_name
        from hs_analysis.collect.plan import Caller

        return Caller(
            url=base_url(url),
            tenant=self.tenant,
            tenant_header=header_name(self.tenant_header),
            token=self._token_word(),
            user=self.user,
            password=shell_word(self.password_file, "HSA_PASSWORD"),
            ca_file=path_text(self.ca_file),
            client_cert=path_text(self.client_cert),
            client_key=path_text(self.client_key),
            insecure=self.insecure,
            parameters=backend.parameters,
        )


def _credential(file: Path | None, flag: str, variable: str) -> Secret | None:
    from hs_analysis.collect.access import secret

    if file is not None:
        try:
            return secret(file.read_text("utf-8"), f"{flag} {file}")
        except OSError as error:
            raise UsageError(f"can't be read ({error.strerror})", where=f"{flag} {file}") from error
        except UnicodeDecodeError:
            raise UsageError("is no text", where=f"{flag} {file}") from None
    text = os.environ.get(variable)
    return secret(text, variable) if text else None


def shell_word(file: Path | None, variable: str) -> str | None:
    """Return the shell word that gives a credential when a command runs; the credential is not read."""
    if file is not None:
        return f"$(cat {shlex.quote(str(file.resolve()))})"
    return f"${variable}" if os.environ.get(variable) else None


def path_text(path: Path | None) -> str | None:
    """Return a path as text."""
    return None if path is None else str(path)


@dataclass(frozen=True)
class SelectionFlags:
    """Which samples are asked for."""

    last: Annotated[
        str | None,
        typer.Option(
            "--last", metavar="TIME", rich_help_panel=INPUT, show_default=False,
            help="The window up to --to, or to now: 7d, 36h; a week unless said.",
        ),
    ] = None  # fmt: skip
    step: Annotated[
        str | None,
        typer.Option(
            "--step", metavar="TIME", rich_help_panel=INPUT, show_default=False,
            help="Fewer samples: one every so long, where that is longer than the scrape interval, which "
            "pull asks the server for and export-plan takes as 15s. All of them, as scraped, unless said.",
        ),
    ] = None  # fmt: skip
    match: Annotated[
        str | None,
        typer.Option(
            "--match", metavar="SELECTOR", rich_help_panel=INPUT, show_default=False,
            help="Only series with these labels: 'cluster=\"prod\",job=~\"vllm.*\"'.",
        ),
    ] = None  # fmt: skip
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", metavar="NAME", rich_help_panel=INPUT, show_default=False,
            help="Only this Kubernetes namespace; exported_namespace counts before namespace.",
        ),
    ] = None  # fmt: skip
    exporter: Annotated[
        list[str] | None,
        typer.Option(
            "--exporter", metavar="NAME", rich_help_panel=INPUT, show_default=False,
            help="Only metrics of this exporter (vllm, sglang, dcgm, …); repeat it, all of them unless said.",
        ),
    ] = None  # fmt: skip

    def request(self, bounds: BoundsFlags, want: Wanted) -> PlanRequest:
        """Return what was asked for.

        Raises
        ------
        UsageError
            For what can't be understood, before anything is read or asked.
        """
        from hs_analysis.collect.plan import PlanRequest
        from hs_analysis.collect.selectors import parse_matchers

        if bounds.start is not None and self.last is not None:
            raise UsageError("both say where the window starts", where="--from and --last", hint="keep one")
        window: Mapping[str, str] = resolve([bounds.layer()])[0]
        parse_matchers(self.match or "", "--match")
        known = [one.name for one in want.catalogue.exporters]
        for name in self.exporter or ():
            if name not in known:
                hint = suggestion(name, known)
                raise UsageError(f"no such exporter {name!r}", where="--exporter", hint=hint)
        return PlanRequest(
            start=window.get("start"),
            end=window.get("end"),
            last_s=seconds(self.last, "--last") if self.last else None,
            step_s=seconds(self.step, "--step") if self.step else None,
            match=self.match,
            namespace=self.namespace,
            exporters=tuple(self.exporter or ()),
            own=want.own,
        )


OutFlag = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", rich_help_panel=OUTPUT, help="Folder of plan.json and the files."),
]
PlanForceFlag = Annotated[
    bool,
    typer.Option(
        "--force",
        rich_help_panel=OUTPUT,
        help="Replace the plan in the folder, and the files fetched for it.",
    ),
]
EXPORT_PLAN_HELP = (
    "hsa export-plan --last 7d --out dumps > pull.sh\n\n"
    "The exact, chunked queries to run on a Prometheus, Thanos, Mimir or VictoriaMetrics, for where "
    "hsa pull can't reach it: commands on stdout, the same as data in plan.json. Run them in the folder "
    "of plan.json, and give that folder to hsa run. Needs no network."
)


@grouped
def export_plan(
    *,
    selection: SelectionFlags,
    series: Annotated[
        Path | None,
        typer.Option(
            "--series", metavar="FILE", rich_help_panel=INPUT, show_default=False,
            help="A saved answer of /api/v1/series: only metrics that exist are asked for, and large ones "
            "are split by role and pod.",
        ),
    ] = None,
    tool: Annotated[
        Literal["curl", "promtool"],
        typer.Option("--tool", rich_help_panel=OUTPUT, help="Which program the commands are for."),
    ] = "curl",
    url: Annotated[
        str,
        typer.Option("--url", metavar="URL", envvar="HSA_URL", rich_help_panel=SERVER, help=URL_HELP),
    ] = "http://localhost:9090",
    access: AccessFlags,
    backend: BackendFlag = None,
    out: OutFlag = Path("dumps"),
    replace: PlanForceFlag = False,
    config: ConfigFlags,
    bounds: BoundsFlags,
    form: QuietFlags,
) -> None:  # fmt: skip
    """Write plan.json and print the commands that run it."""
    want = _wanted(config)
    request = selection.request(bounds, want)
    from hs_analysis.collect.backends import backend_of

    kind = backend_of(url, backend)
    caller = access.caller(url, kind)

    from hs_analysis.collect.plan import TOOLS, promtool_lacks
    from hs_analysis.pipeline.pull import offline_plan, write_plan

    known = _series(series) if series else None
    plan = offline_plan(request, _now(), known, want, kind)
    lack = promtool_lacks(caller, plan.files) if tool == "promtool" else None
    if lack:
        raise UsageError(lack, where="--tool promtool", hint="leave it out: curl does")
    path = write_plan(out, plan, force=replace)
    progress = progress_listener(quiet=form.quiet, no_color=form.no_color, log=form.log)
    for note in plan.notes:
        progress.noted(f"note: {note}")
    progress.noted(f"wrote {path}: {len(plan.files)} files; run the commands in {out}")
    commands = [TOOLS[tool](file, caller) for file in plan.files]
    write_output(_planned(plan, path, commands), form.output, no_color=form.no_color)


def _planned(plan: Plan, path: Path, commands: list[str]) -> CommandOutput:
    from hs_analysis.pipeline.records import to_plain

    rows = [
        {**to_plain(file), "match": None, "command": command}
        for file, command in zip(plan.files, commands, strict=True)
    ]
    rows = [{key: value for key, value in row.items() if key != "match"} for row in rows]
    data = {"plan": str(path), "start": plan.start, "end": plan.end, "notes": plan.notes, "files": rows}
    return CommandOutput(data, rows, lambda: ["set -e", *commands])


PULL_HELP = (
    "hsa pull --url http://localhost:9090 --last 7d --out dumps\n\n"
    "Fetch what a study needs from a Prometheus, Thanos, Mimir or VictoriaMetrics into a folder for hsa "
    "run: the catalogue's metrics that the server has, their samples as scraped, in chunks the "
    "server answers. Stopped in the middle, the same command goes on where it was. Credentials come from "
    "HSA_TOKEN, HSA_USER and HSA_PASSWORD or from files, and are never printed or written."
)


@grouped
def pull(
    *,
    url: UrlFlag,
    config: ConfigFlags,
    bounds: BoundsFlags,
    selection: SelectionFlags,
    access: AccessFlags,
    backend: BackendFlag = None,
    rate: RateFlag = 5.0,
    max_samples: SamplesFlag = 1_000_000,
    timeout: TimeoutFlag = "2m",
    out: OutFlag = Path("dumps"),
    replace: PlanForceFlag = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", rich_help_panel=GATES, help=STRICT_HELP),
    ] = False,
    form: QuietFlags,
) -> None:
    """Run the plan on a server and print what came."""
    import time

    want = _wanted(config)
    request = selection.request(bounds, want)
    from hs_analysis.collect.access import base_url
    from hs_analysis.collect.backends import backend_of

    kind = backend_of(url, backend)
    who = access.access(kind)
    timeout_s = seconds(timeout, "--timeout")

    from hs_analysis.collect.fetch import ServerLimits
    from hs_analysis.collect.server import Pace, PrometheusServer
    from hs_analysis.pipeline.pull import pull as run_pull

    progress = progress_listener(quiet=form.quiet, no_color=form.no_color, log=form.log)
    try:
        pace = Pace(rate, time.monotonic, time.sleep)
        server = PrometheusServer(base_url(url), who, pace, progress.noted, timeout_s, kind)
        pulled = run_pull(
            server, out, request, ServerLimits(max_samples),
            now=_now(), progress=progress, want=want, force=replace,
        )  # fmt: skip
    finally:
        progress.close()
    write_output(_pulled(pulled, out), form.output, no_color=form.no_color)
    if strict and pulled.lost:
        raise ManyErrors(
            [DataMissing(one.text, hint=f"ask again: {one.command}") for one in pulled.lost],
            more=f"hsa doctor {out}",
        )


def _pulled(pulled: Pulled, out: Path) -> CommandOutput:
    files = [
        {
            "file": got.file.file, "metric": got.file.metric, "signal": got.file.signal,
            "exporter": got.file.exporter, "role": got.file.role, "bytes": got.size,
            "state": "there already" if got.fetched is None else "fetched",
            "series": got.fetched.series if got.fetched else None,
            "points": got.fetched.points if got.fetched else None,
            "listed": got.file.expected_series,
        }
        for got in pulled.files
    ]  # fmt: skip
    data = {
        "out": str(out), "start": pulled.plan.start, "end": pulled.plan.end, "files": files,
        "absent": pulled.plan.absent,
        "warnings": [{"file": file, "text": text} for file, text in pulled.warnings],
        "findings": [
            {
                "code": one.code, "level": one.level, "text": one.text, "files": one.files,
                "command": one.command,
            }
            for one in pulled.findings
        ],
        "notes": pulled.plan.notes,
    }  # fmt: skip
    return CommandOutput(data, files, lambda: _pulled_blocks(data))


def _pulled_blocks(data: Mapping[str, Any]) -> list[Block]:
    columns = columns_of("metric signal exporter files series points bytes")
    blocks: list[Block] = [Table("Metrics", columns, _by_metric(data["files"]))]
    if data["warnings"]:
        blocks.append(Table("The server warned", columns_of("file text"), data["warnings"]))
    if data["findings"]:
        columns = [("level", "level"), ("text", "finding")]
        blocks.append(Table("Other than planned", columns, data["findings"]))
    out = data["out"]
    return [
        *blocks,
        f"window: {data['start']} to {data['end']}",
        f"not on this server: {len(data['absent'])} other metrics of the catalogue",
        f"files: {out}",
        f"next: hsa doctor {out}, then hsa run {out} --slo ttft=… --slo tbt=… --startup …",
    ]


def _by_metric(files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row a metric; series and points are null where files were there already."""
    rows: dict[str, dict[str, Any]] = {}
    for file in files:
        row = rows.setdefault(
            file["metric"],
            {key: file[key] for key in ("metric", "signal", "exporter")}
            | {"files": 0, "series": 0, "points": 0, "bytes": 0},
        )
        row["files"] += 1
        row["bytes"] += file["bytes"]
        known = row["series"] is not None and file["series"] is not None
        row["series"] = max(row["series"], file["series"]) if known else None
        row["points"] = row["points"] + file["points"] if known else None
    return list(rows.values())


def _wanted(config: ConfigFlags) -> Wanted:
    """Return what is asked for: the catalogue's metrics and those that hsa.toml maps."""
    from hs_analysis.pipeline.effective import for_inputs
    from hs_analysis.pipeline.pull import wanted

    return wanted(for_inputs(config.config, []).settings.reading)


def _series(path: Path) -> list[dict[str, str]]:
    """Return the labels in a saved answer of /api/v1/series.

    Raises
    ------
    UsageError
        When the file is none.
    """
    import gzip

    try:
        raw = path.read_bytes()
        rows = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)["data"]
        return [{str(key): str(value) for key, value in row.items()} for row in rows]
    except OSError as error:
        raise UsageError(f"can't be read ({error.strerror or error})", where=f"--series {path}") from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise UsageError(
            "is no answer of /api/v1/series", where=f"--series {path}",
            hint="save it with curl -sG URL/api/v1/series -d 'match[]={__name__!=\"\"}'",
        ) from error  # fmt: skip


def _now() -> float:
    import time

    return float(int(time.time()))

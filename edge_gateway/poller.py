"""One line's thread: each station in turn, its records stored before they are acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import structlog

from edge_gateway import station_policy as policy
from edge_gateway.configuration import GatewayConfiguration, LineConfiguration, StationConfiguration
from edge_gateway.contacts import ContactBook
from edge_gateway.errors import LineUnavailable, LinkError, NotOurStation, OutboxUnavailable
from edge_gateway.host_clock import no_doubt
from edge_gateway.line_client import ModbusClient
from edge_gateway.line_jobs import Job, LineJobs, Result, Steps
from edge_gateway.line_store import LineStore
from edge_gateway.outbox import Outbox
from edge_gateway.slices import Loss, Progress, Range, Series, Slice
from edge_gateway.station_link import StationLink
from edge_gateway.station_policy import Ask, Known, Question
from edge_gateway.station_protocol import Fetched
from station_config.clock import Clock

log = structlog.get_logger()

TURN_S = 2.0
QUESTIONS_A_TURN = 5  # at least, however long one takes
JOBS_TURN_S = 1.0  # at most, after the turn of a station: while there is a backlog jobs have a third of the line
LINE_RETRY_S = 2.0


@dataclass
class _Member:
    """A station of the line, as this thread remembers it between turns."""

    station: StationConfiguration
    identified: bool = False
    failures: int = 0
    next_attempt: float = 0.0
    half_round_trip_s: float = 0.0  # by the clock that stations are set by; on the bench it runs faster
    round_trip_s: float = 0.0
    unused: dict[int, tuple[Fetched, int]] = field(default_factory=dict)
    """Answers that did not begin where asked, by the seq asked for, and how often in a row: believed in the end."""
    alarm: str = ""


class LinePoller:
    """Polls the stations of one line until told to stop."""

    def __init__(
        self,
        configuration: GatewayConfiguration,
        line: LineConfiguration,
        outbox: Outbox,
        contacts: ContactBook,
        clock: Clock,
        client: ModbusClient | None = None,
        host_clock_doubt: Callable[[], str | None] = no_doubt,
    ) -> None:
        """While `host_clock_doubt` returns a reason, no station's clock is set."""
        self._line = line
        self._interval_s = configuration.poll_interval_s
        self._clock_tolerance_s = configuration.clock_tolerance_s
        self._records = LineStore(outbox, configuration.outbox.gather_s)
        self._contacts = contacts
        self._clock = clock
        self._host_clock_doubt = host_clock_doubt
        self._link = StationLink(line, client)
        self._members = [_Member(station) for station in line.stations]
        self._line_fault = ""
        self._jobs = LineJobs()
        self._log = log.bind(line=line.name)

    def submit(self, job: Job[Result], address: int) -> Future[Result]:
        """Have a job done for the station at `address`, question by question beside the polling. Any thread."""
        return self._jobs.submit(job, address)

    def ask_again(self, station: str, in_cloud: Mapping[int, Sequence[Range]]) -> Future[dict[int, list[Range]]]:
        """Have what the cloud has not of a station fetched again; the Future tells what, by journal. Any thread."""

        def job(_link: StationLink, _address: int) -> Steps[dict[int, list[Range]]]:
            yield 0.0
            return self._records.ask_again(self._contacts.all()[station], in_cloud, self._clock.now())

        return self._jobs.submit(job, 0)

    def run(self, stop: threading.Event) -> None:
        """Poll until `stop` is set. Raises OutboxDamaged, OutboxClosed."""
        self._records.load()
        try:
            while not stop.is_set():
                begun = time.monotonic()
                more_to_fetch = self._round(stop)
                if not more_to_fetch:
                    self._rest(begun + self._interval_s, stop)
        finally:
            self._link.close()

    def _rest(self, ends_at: float, stop: threading.Event) -> None:
        """Leave the line to the jobs until the next round, or wait."""
        while (left_s := ends_at - time.monotonic()) > 0 and not stop.is_set():
            self._jobs.work(self._link, left_s, stop)
            due_in_s = self._jobs.due_in_s()
            stop.wait(max(0.0, min(left_s, ends_at - time.monotonic(), left_s if due_in_s is None else due_in_s)))

    def _round(self, stop: threading.Event) -> bool:
        """Give each station that is due its turn; return whether one has a backlog left."""
        more_to_fetch = False
        try:
            self._link.open()
            self._line_fault = ""
            for member in self._members:
                if not stop.is_set() and time.monotonic() >= member.next_attempt:
                    begun = time.monotonic()
                    more_to_fetch |= self._turn(member, stop)
                    self._jobs.work(self._link, min(JOBS_TURN_S, time.monotonic() - begun), stop)
        except LinkError as error:
            self._line_lost(error, stop)
        except OutboxUnavailable as error:
            self._log.debug("the line waits for the outbox", reason=str(error))  # which has said so
            stop.wait(LINE_RETRY_S)
        return more_to_fetch

    def _turn(self, member: _Member, stop: threading.Event) -> bool:
        begun = time.monotonic()
        try:
            ended = self._converse(member, stop)
        except LineUnavailable:
            raise
        except LinkError as error:
            self._failed(member, error, time.monotonic() - begun)
            return False
        self._answered(member, ended)
        return ended.more

    def _converse(self, member: _Member, stop: threading.Event) -> Question:
        """Ask what the policy says until it says rest; return that."""
        known = Known(identified=member.identified, host_clock_doubt=self._host_clock_doubt())
        begun = time.monotonic()
        while True:
            self._records.settle()
            # Through a slow radio a turn is long enough for some records: a status alone may take two seconds there.
            turn_s = max(TURN_S, QUESTIONS_A_TURN * member.round_trip_s)
            known = replace(known, time_used_up=stop.is_set() or time.monotonic() >= begun + turn_s)
            question = policy.next_question(known, self._clock.now(), self._clock_tolerance_s)
            if question.ask is Ask.REST:
                return question
            known = self._ask(member, known, question)

    def _ask(self, member: _Member, known: Known, question: Question) -> Known:
        address = member.station.address
        if question.ask is Ask.IDENTIFY:
            return self._identify(member, known)
        if question.ask is Ask.STATUS:
            return self._read_status(member, known)
        if question.ask is Ask.SET_CLOCK:
            self._log.info("setting a station's clock", station=member.station.id, reason=question.reason)
            delay_s = member.half_round_trip_s
            self._link.set_clock(address, self._clock.now() + delay_s, delay_s)
            # The station writes an event for the step: its status is read again before records are fetched.
            return replace(known, clock_tried=True, status=None)
        if question.ask is Ask.DECLARE_LOST:
            return self._declare_lost(member, known, question)
        return self._fetch(member, known, question)

    def _identify(self, member: _Member, known: Known) -> Known:
        found = self._link.read_station_id(member.station.address)
        if found != member.station.id:
            raise NotOurStation(
                f"address {member.station.address} answers as station {found!r}, the configuration says "
                f"{member.station.id!r}; nothing of it is used"
            )
        member.identified = True
        return replace(known, identified=True)

    def _read_status(self, member: _Member, known: Known) -> Known:
        begun, asked_at = time.monotonic(), self._clock.now()
        status = self._link.read_status(member.station.address)
        answered_at = self._clock.now()
        member.round_trip_s = time.monotonic() - begun
        member.half_round_trip_s = (answered_at - asked_at) / 2
        if not self._contacts.all()[member.station.id].reachable:
            self._log.info("a station answers", station=member.station.id, journal=status.journal, boot=status.boot)
            self._contacts.update(member.station.id, reachable=True, reason="answers")
        self._contacts.update(
            member.station.id,
            journal=status.journal,
            first_seq=status.first_seq,
            next_seq=status.next_seq,
            acknowledged=status.stored_through,
            last_contact=int(answered_at),
        )
        series = Series(member.station.id, status.journal)
        return replace(
            known,
            status=status,
            clock=policy.read_clock(status.clock_s, asked_at, answered_at),
            progress=self._records.progress(series),
            stored_through=self._records.stored_through(series),
        )

    def _declare_lost(self, member: _Member, known: Known, question: Question) -> Known:
        assert known.status is not None
        assert question.lost is not None
        loss = Loss(Series(member.station.id, known.status.journal), *question.lost, question.reason)
        return replace(known, progress=self._lose(loss, known.status.first_seq))

    def _fetch(self, member: _Member, known: Known, question: Question) -> Known:
        assert known.status is not None
        status, series = known.status, Series(member.station.id, known.status.journal)
        stored = self._records.stored_through(series)
        stored_through = status.stored_through if stored is None else stored
        fetched = self._link.fetch(
            member.station.address, series.journal, question.from_seq, stored_through, question.number
        )
        acknowledged = max(stored_through, status.stored_through)
        self._contacts.update(member.station.id, acknowledged=acknowledged)
        known = replace(known, status=replace(status, stored_through=acknowledged))
        if question.ask is Ask.ACKNOWLEDGE:
            return known
        return self._use(member, known, question, series, fetched)

    def _use(self, member: _Member, known: Known, question: Question, series: Series, fetched: Fetched) -> Known:
        """Store an answer, or declare what it proves lost, or neither; the turn asks for no more after "neither"."""
        # By the seq asked for: between two questions for the backlog there may be one for live records.
        before, times = member.unused.get(question.from_seq, (None, 0))
        times = times + 1 if fetched == before else 1
        judgement = policy.judge(question.from_seq, fetched, times)
        if judgement.store or judgement.lost is not None:
            member.unused.pop(question.from_seq, None)
        else:
            member.unused = {question.from_seq: (fetched, times)}
        known = replace(known, fetches=known.fetches + 1)
        assert known.status is not None
        begins_at = known.status.first_seq
        if judgement.lost is not None:
            loss = Loss(series, *judgement.lost, judgement.reason)
            return replace(known, progress=self._lose(loss, begins_at))
        if judgement.store:
            piece = Slice(series, question.from_seq, fetched.records)
            return replace(known, progress=self._records.store(piece, begins_at, self._clock.now()))
        self._log.warning("an answer was not used", station=member.station.id, reason=judgement.reason)
        return replace(known, nothing_came=True)

    def _lose(self, loss: Loss, begins_at: int) -> Progress:
        """Declare lost what of the range is not stored."""
        known = self._records.progress(loss.series) or Progress(begins_at - 1)
        lost = [loss._replace(first_seq=first, last_seq=last) for first, last in known.missing(*loss[1:3])]
        for part in lost:
            self._log.error(
                "records lost before the gateway could read them",
                **part.series._asdict(),
                first_seq=part.first_seq,
                last_seq=part.last_seq,
                reason=part.reason,
            )
        return self._records.lose(loss.series, lost, begins_at, self._clock.now())

    def _answered(self, member: _Member, ended: Question) -> None:
        member.failures = 0
        member.next_attempt = 0.0
        if ended.alarm and member.alarm != ended.reason:
            self._log.error("something is wrong with a station", station=member.station.id, reason=ended.reason)
        member.alarm = ended.reason if ended.alarm else ""
        self._note(member, reachable=True, reason=member.alarm or "answers")

    def _failed(self, member: _Member, error: LinkError, cost_s: float) -> None:
        member.failures += 1
        member.identified = False
        silent = sum(other.failures > policy.FAILURES_FORGIVEN for other in self._members)
        pause_s = policy.pause_s(member.failures, cost_s, silent, self._interval_s)
        member.next_attempt = time.monotonic() + pause_s
        given_up = member.failures > policy.FAILURES_FORGIVEN or isinstance(error, NotOurStation)
        before = self._contacts.all()[member.station.id]
        if given_up and (before.reachable or before.reason != str(error)):
            self._log.warning(
                "a station does not answer", station=member.station.id, reason=str(error), next_in_s=pause_s
            )
        self._note(member, reachable=before.reachable and not given_up, reason=str(error))

    def _note(self, member: _Member, *, reachable: bool, reason: str) -> None:
        counters = self._link.counters(member.station.address)
        self._contacts.update(
            member.station.id,
            reachable=reachable,
            reason=reason,
            questions=counters.questions,
            timeouts=counters.timeouts,
            crc_errors=counters.crc_errors,
            late_answers=counters.late_answers,
            wrong_answers=counters.wrong_answers,
            refusals=counters.refusals,
            latency_counts=tuple(counters.latencies.counts),
            latency_max_ms=counters.latencies.longest_ms,
        )

    def _line_lost(self, error: LinkError, stop: threading.Event) -> None:
        """The port is not there: no station of this line can be reached until it is back."""
        if str(error) != self._line_fault:
            self._log.warning("the line cannot be used", reason=str(error))
        self._line_fault = str(error)
        self._link.close()
        for member in self._members:
            member.identified = False
            self._note(member, reachable=False, reason=str(error))
        self._jobs.work(self._link, 0.0, stop)  # so that they give up in the end
        stop.wait(LINE_RETRY_S)

"""One claim from signature to record: sign, send, judge, decide."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from signalpost import reports
from signalpost.clock import Lease
from signalpost.core.lifecycle import MIN_LIFE_SECONDS, RETRY_AFTER_CAP_SECONDS, decide
from signalpost.core.outcomes import Answer, Failure, Phase, classify, retry_after_seconds
from signalpost.errors import EndpointError, RecordHeld, SecretError
from signalpost.flight import Flight
from signalpost.gate import Gate
from signalpost.grouping import Grouped
from signalpost.logs import Seldom, place, speak_of
from signalpost.outbox import Outbox
from signalpost.policies import policy_of
from signalpost.repository.claimed import Claim
from signalpost.repository.recorded import Record, Recorded
from signalpost.secretbox import SecretBox
from signalpost.sender import EXCERPT_BYTES, Parcel, Sender
from signalpost.settings import Settings
from signalpost.signer import Signer
from signalpost.window import Loads

logger = logging.getLogger(__name__)

RECORDS_AT_ONCE = 200
STALE_LOOK_SECONDS = 0.05
HELD_LOOK_SECONDS = 0.5

Observer = Callable[[Claim, Record, Recorded | None, datetime], None]


class Dispatcher:
    """Makes the attempts of claims that this worker holds, and records them in groups."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        sender: Sender,
        lease: Lease,
        settings: Settings,
        box: SecretBox,
        chance: Callable[[], float],
        observe: Observer = lambda *_: None,
    ) -> None:
        """``observe`` hears of each recorded attempt, with database time; quick, never raises."""
        self._sender = sender
        self._lease = lease
        self._settings = settings
        self._chance = chance
        self._observe = observe
        self.gate = Gate(lease)
        self._signer = Signer(box, wall=lease.wall)
        self.flights: dict[UUID, Flight] = {}
        self.loads = Loads()
        self._records: Grouped[Record, Recorded | None] = Grouped(
            outbox.record, key=lambda item: item.delivery_id, most=RECORDS_AT_ONCE
        )

    def take(self, claim: Claim, *, epoch: int, claimed_at: float | None = None) -> Flight:
        """Hold a claim, in the very step in which its statement returned.

        ``claimed_at``: steady seconds, when the statement was sent; None: just now.
        """
        when = self._lease.steady if claimed_at is None else claimed_at
        flight = self.flights[claim.claim_id] = Flight(claim, epoch, when)
        self.loads.take(claim)
        return flight

    def attempts(self, claim: Claim) -> bool:
        """Whether somebody has begun to see to this claim's attempt."""
        flight = self.flights.get(claim.claim_id)
        return flight is not None and flight.task is not None

    def forget(self, claim: Claim) -> None:
        """Let go of a claim that nobody attempts; if somebody does after all, nothing is sent."""
        flight = self.flights.pop(claim.claim_id, None)
        if flight is not None:
            flight.aborted = Failure.LEASE
            self.loads.give_back(claim)

    async def attempt(self, flight: Flight) -> reports.Report:
        """Make the attempt, record what came of it, and report."""
        claim = flight.claim
        flight.task = asyncio.current_task()
        speak_of(**subject_of(claim))
        try:
            answer = await self._answer(flight)
            flight.recording = True
            item = self.judge(claim, answer)
            recorded = await self._record(item)
        finally:
            if self.flights.pop(claim.claim_id, None) is not None:
                self.loads.give_back(claim)
        return self.tell(claim, item, recorded)

    async def _record(self, item: Record) -> Recorded | None:
        seldom: Seldom | None = None
        while True:
            try:
                return await self._records.put(item)
            except RecordHeld as held:
                seldom = seldom or Seldom()
                if seldom.lets(self._lease.steady):
                    logger.warning("not recorded yet: %s", held)
                await asyncio.sleep(HELD_LOOK_SECONDS)

    def tell(self, claim: Claim, item: Record, recorded: Recorded | None) -> reports.Report:
        """Count a recorded attempt, write its line, and return its report."""
        self._observe(claim, item, recorded, self._lease.now())
        report = reports.attempt_report(claim, item, recorded)
        reports.log(report)
        return report

    async def _answer(self, flight: Flight) -> Answer:
        began = self._lease.steady
        try:
            if flight.aborted is None:
                return await self._send(flight)
            failure, detail = flight.aborted, ""
        except asyncio.CancelledError:
            if flight.aborted is None:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            failure, detail = flight.aborted, ""
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not hide the attempt
            logger.error(
                "own code failed, please report it error=%s place=%s",
                type(error).__name__,
                place(error),
            )
            failure, detail = Failure.INTERNAL, type(error).__name__
        # A status that has come is the receiver's word, whatever ended the attempt behind it.
        came = flight.gathered
        return Answer(
            phase=flight.progress.phase,
            duration_seconds=self._lease.steady - began,
            status_code=came.status_code,
            failure=failure,
            detail=detail,
            retry_after=came.retry_after,
            date=came.date,
            excerpt=bytes(came.excerpt[:EXCERPT_BYTES]),
        )

    async def _send(self, flight: Flight) -> Answer:
        claim = flight.claim
        refusal = self._last_check(flight)
        while refusal is Failure.STALE and not flight.recording:
            # Nothing is sent yet, so this costs only time; the lease and the life bound it.
            await asyncio.sleep(STALE_LOOK_SECONDS)
            refusal = self._last_check(flight)
        if refusal is not None:
            return Answer(Phase.NONE, 0.0, failure=refusal)
        try:
            headers = self._signer.headers(claim)
        except SecretError as error:
            logger.error("the endpoint's secret cannot be read: %s", error)
            return Answer(Phase.NONE, 0.0, failure=Failure.SECRET)
        except EndpointError:
            return Answer(Phase.NONE, 0.0, failure=Failure.URL)
        timeout = policy_of(claim, self._settings).timeout_seconds
        life = self._lease.life_seconds(claim.expires_at)
        parcel = Parcel(
            url=claim.url,
            headers=headers,
            body=claim.body,
            timeout_seconds=timeout if life is None else min(timeout, life),
            last_check=lambda: self._last_check(flight),
        )
        return await self._sender.send(parcel, flight.progress, flight.gathered)

    def _last_check(self, flight: Flight) -> Failure | None:
        life = self._lease.life_seconds(flight.claim.expires_at)
        if life is not None and life < MIN_LIFE_SECONDS:
            return Failure.EXPIRED
        if not self._lease.fresh or self._lease.epoch != flight.epoch:
            return Failure.LEASE
        if not self._lease.clock_ok:
            return Failure.CLOCK
        return self.gate.refuses(flight.claim, claimed_at=flight.claimed_at)

    def judge(self, claim: Claim, answer: Answer) -> Record:
        """Turn an answer into the record that says what it meant and what follows."""
        verdict = classify(answer, maybe_received=claim.maybe_received)
        decision = decide(
            verdict,
            policy=policy_of(claim, self._settings),
            spent=claim.spent,
            life_seconds=self._lease.life_seconds(claim.expires_at),
            retry_after_seconds=retry_after_seconds(
                answer.retry_after, now=self._lease.now(), cap_seconds=RETRY_AFTER_CAP_SECONDS
            ),
            chance=self._chance(),
        )
        return Record(
            delivery_id=claim.delivery_id,
            claim_id=claim.claim_id,
            attempt=claim.attempt,
            worker_id=claim.worker_id,
            started_at=claim.claimed_at,
            answer=answer,
            verdict=verdict,
            decision=decision,
            claim=claim,
        )

    def judge_lost(self, claim: Claim) -> Record:
        """Judge a claim whose worker is gone: nobody knows how far it got."""
        return self.judge(claim, Answer(Phase.NONE, 0.0, failure=Failure.LOST))


def subject_of(claim: Claim) -> dict[str, object]:
    """What lines about a claim's attempt are about."""
    return {
        "delivery": claim.delivery_id,
        "signal": claim.signal_id,
        "endpoint": claim.endpoint,
        "attempt": claim.attempt,
    }

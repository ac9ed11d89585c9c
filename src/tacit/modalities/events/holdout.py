"""What is held out of interactions: the event that each person is asked about, and one before it to choose by.

leave one out   test: the last event of everyone who has two or more; everything before it is known
by time         test: the first event after a moment, of everyone who has events before it as well; what happened until
                that moment is known. People whose first event lies behind it cannot be asked about

Validation asks the same one step earlier: about the last event but one, or about the first event after an earlier
moment. What is learned from ends where validation begins, so that what is chosen there was never learned. Of more than
a hundred thousand people as many are asked, taken at random.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tacit.core import keys
from tacit.core.errors import UserError
from tacit.data.split import Split
from tacit.evaluation.arms import Labelled
from tacit.evaluation.sealing import EVENT_SEALS, EVENTS_KEPT, Seal, content_digests, group_digest, seal
from tacit.evaluation.splits import Positions
from tacit.modalities.events.histories import Histories
from tacit.modalities.events.options import NEXT_UP
from tacit.modalities.events.store import Histories as Store

MOST = 100_000  # questions of a kind

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Held:
    """N questions about U people, and what may be learned from."""

    learn: Histories  # [U]
    asked: Histories  # [N] what is known when a question is asked
    came: Ints  # [N] the item that came next
    user: Ints  # [N]
    train: Positions  # the questions of validation
    test: Positions
    left_out: int  # people who cannot be asked about
    how: Literal["last", "time"]

    def labelled(self, names: Sequence[str] | None = None, *, target: str = NEXT_UP) -> Labelled:
        """For `evaluate`; `names` [U] of the people let judgements of the same questions be paired and sealed."""
        questions = np.arange(len(self.came))
        return Labelled(
            fetch=self.asked.batch,
            y=np.zeros(len(questions), np.int64),
            classes=(),
            group=questions,  # one person's questions are kept apart by time, not by a split of people
            train=self.train,
            test=self.test,
            content=None if names is None else self._content(names),
            target=target,
            truth=self.came,
            popularity=self.learn.counts(),
            lengths=self.asked.lengths,
            own=True,
        )

    @property
    def returns(self) -> int:
        """Test questions that ask for what the history holds: nobody finds it where what was seen is left out."""
        test = self.asked.take(self.test)
        found = np.zeros(len(test), bool)
        for history, places in test.events():
            found[history[test.items[places] == self.came[self.test][history]]] = True
        return int(found.sum())

    def seal(self, names: Sequence[str], *, seed: int = 0) -> Seal:
        """The seal of the test's events, which `sealed_places` finds again when people have gone on."""
        said = np.array([names[user] for user in self.user[self.test].tolist()])
        everything = np.ones(len(self.test), np.int64)
        kept = seal(everything - 1, said, self._content(names)[self.test], seed=seed, split=everything)
        return replace(kept, source=EVENT_SEALS[self.how])

    def _content(self, names: Sequence[str]) -> NDArray[np.void]:
        place = self.asked.lengths.tolist()
        return _hashes([(names[user], at) for user, at in zip(self.user.tolist(), place, strict=True)])


def leave_one_out(histories: Histories, *, validation: float = 1.0, seed: int = 0, sealed: Ints | None = None) -> Held:
    """The last event of everyone is tested; of this share of them the one before chooses, if there is one before that.

    `sealed` [U] are the places of the events that are tested instead, negative for people of whom none is: all that
    these did is learned from. Raises `UserError` where fewer than two people can be asked.
    """
    place = histories.lengths - 1 if sealed is None else sealed
    tested = np.flatnonzero(place >= 1)
    if len(tested) < 2:
        raise UserError(
            f"{len(tested)} of {len(histories):,} people have two events or more: nothing can be held out of the others"
        )
    able = np.flatnonzero(place >= 2)
    some = np.random.default_rng(keys.fold(seed, "validation")).permutation(able)[: round(validation * len(able))]
    chosen = np.sort(some)
    event = histories.start + place
    learned = np.where(place >= 1, event, histories.stop)
    learned[chosen] -= 1
    return _held("last", histories, learned, (chosen, learned[chosen]), (tested, event[tested]))


def hold_out(
    store: Store, names: Sequence[str], *, target: str, seed: int, transductive: bool, sealed: Seal | None
) -> Split:
    """Hold events out, not people: those that come last, or after a moment, or that an earlier seal keeps.

    UserError where too few can be held out, or none of the sealed events is there.
    """
    whole = Histories(store.items, store.start, store.ends, store.n_items)

    def hold(places: Ints | None) -> Held:
        if store.held != "time":
            return leave_one_out(whole, seed=seed, sealed=places)
        assert store.times is not None
        return by_time(whole, store.times, sealed=places)

    held = hold(None)
    own = held.seal(names, seed=seed)
    if sealed is not None and sealed.source != own.source:
        raise UserError(
            f"the seal keeps {EVENTS_KEPT.get(sealed.source, 'examples with labels')}, and what is tested here is "
            f"{EVENTS_KEPT[own.source]}: choose --holdout by the seal, or leave it out"
        )
    if sealed is not None and sealed.items != own.items:  # people have gone on since
        places = sealed_places(sealed, names, whole)
        if not (places >= 0).any():
            raise UserError(
                "none of the sealed events is in the data: give the seal that belongs to these histories, or none"
            )
        held = hold(places)
    sealed = sealed or own
    labelled = replace(held.labelled(names, target=target), transductive=transductive)
    learnable = np.flatnonzero(held.learn.lengths > 0)
    return Split(learnable, held.user, labelled, sealed, len(sealed.items) - len(held.test), held)


def about_held(split: Split) -> list[str]:
    """What is asked of histories, and what of it the usual way to ask leaves out."""
    held = split.held
    assert isinstance(held, Held)
    tested = len(held.test)
    few = f"; {held.left_out:,} {'has' if held.left_out == 1 else 'have'} too few events to be asked about"
    lines = [
        f"{tested:,} histories are tested by the event that came next, {len(held.train):,} choose by one before it"
        + (few if held.left_out else "")
    ]
    again = held.returns
    if again and split.labelled is not None and split.labelled.target == NEXT_UP:
        lines.append(
            f"{again:,} of the {tested:,} tested events are of an item that the history holds, which is not "
            "recommended again: --target repeats asks for repeated items too"
        )
    return lines


def sealed_places(kept: Seal, names: Sequence[str], histories: Histories) -> Ints:
    """The place [U] in each history of the event that an earlier seal keeps; -1 of those of whom it keeps none."""
    by_person = {of: item for item, of in kept.items.items()}
    place = np.full(len(histories), -1, np.int64)
    for user, length in enumerate(histories.lengths.tolist()):
        item = by_person.get(group_digest(names[user]))
        if item is not None:
            digests = (content_digests(_hashes([(names[user], at)]))[0] for at in range(length - 1, 0, -1))
            place[user] = next((length - 1 - back for back, digest in enumerate(digests) if digest == item), -1)
    return place


def _hashes(questions: Sequence[tuple[str, int]]) -> NDArray[np.void]:
    """A question is told by the person and the place of its event in their history."""
    said = (f"{name}/{place}".encode() for name, place in questions)
    return np.array([hashlib.blake2b(text, digest_size=16).digest() for text in said], "V16")


def by_time(
    histories: Histories,
    times: NDArray[Any],
    *,
    test: float = 0.1,
    validation: float = 0.1,
    sealed: Ints | None = None,
) -> Held:
    """The last share `test` of all events lies behind the moment that is tested; `validation` is that before it.

    `times` [E] are those of `histories.items`. With the places `sealed` [U], see `leave_one_out`, the moment is that of
    the first of their events, whatever has happened since. Raises `UserError` where fewer than two people can be asked.
    """
    moments = histories.moments(times, [1 - test - validation, 1 - test])
    if sealed is not None:
        moments[1] = times[(histories.start + sealed)[sealed >= 1]].min()
        share = float(_before(histories, times, moments[1]).sum() / histories.lengths.sum())
        [moments[0]] = histories.moments(times, [share * (1 - test - validation) / (1 - test)])
    early, late = (_before(histories, times, moment) for moment in moments)
    tested = _asked(histories, late)
    if sealed is not None:
        tested = np.flatnonzero(sealed >= 1)
        late[tested] = sealed[tested]
    if len(tested) < 2:
        raise UserError(
            f"{len(tested)} of {len(histories):,} people have events both among the last {100 * test:g} % of all and "
            "before: hold out the last event of each instead"
        )
    chosen = np.flatnonzero((early > 0) & (early < late))
    learned, event = histories.start + early, histories.start + late
    return _held("time", histories, learned, (chosen, learned[chosen]), (tested, event[tested]))


def _before(histories: Histories, times: NDArray[Any], moment: Any) -> Ints:
    """How many events [U] of each history lie before a moment."""
    found = np.zeros(len(histories), np.int64)
    for history, places in histories.events():
        found += np.bincount(history[times[places] < moment], minlength=len(found))
    return found


def _asked(histories: Histories, before: Ints) -> Ints:
    return np.flatnonzero((before > 0) & (before < histories.lengths))


def _held(
    how: Literal["last", "time"],
    histories: Histories,
    learned: Ints,
    validation: tuple[Ints, Ints],
    test: tuple[Ints, Ints],
) -> Held:
    """From where learning stops [U], and the people and places of both kinds of questions."""
    asked = [_some(*validation), _some(*test)]
    user, place = (np.concatenate(parts) for parts in zip(*asked, strict=True))
    n = len(asked[0][0])
    return Held(
        learn=Histories(histories.items, histories.start, learned, histories.n_items),
        asked=Histories(histories.items, histories.start[user], place, histories.n_items),
        came=np.asarray(histories.items[place], np.int64),
        user=user,
        train=np.arange(n),
        test=np.arange(n, len(user)),
        left_out=len(histories) - len(test[0]),
        how=how,
    )


def _some(people: Ints, place: Ints) -> tuple[Ints, Ints]:
    """At most as many questions as intervals gain by, taken at random."""
    if len(people) <= MOST:
        return people, place
    taken = np.sort(np.random.default_rng(0).permutation(len(people))[:MOST])
    return people[taken], place[taken]

"""Hold events out of interactions: a test event to predict for each user, and an earlier one for validation.

leave one out   test: the last event of every user with two or more; the context is everything before it
by time         test: the first event after a cut-off of every user with events before it as well; the context is what
                happened before the cut-off. Users without earlier events cannot be tested

Validation does the same one step earlier: the last event but one, or the first event after an earlier cut-off. Training
events end where validation begins, so that selection is by events that were never learned. Of more than a hundred
thousand users, a random sample of that size is evaluated.
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

MOST = 100_000  # queries, for validation and test each

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Held:
    """N queries (a context, and the item that came next) about U users, and the events to learn from."""

    learn: Histories  # [U]
    contexts: Histories  # [N] the history before each query
    came: Ints  # [N] the item that came next
    user: Ints  # [N]
    train: Positions  # queries of validation
    test: Positions  # queries of the test
    left_out: int  # users without a test query
    how: Literal["last", "time"]

    def labelled(self, names: Sequence[str] | None = None, *, target: str = NEXT_UP) -> Labelled:
        """As `Labelled`; with the `names` [U] of users, results on the same queries can be paired and sealed."""
        questions = np.arange(len(self.came))
        return Labelled(
            fetch=self.contexts.batch,
            y=np.zeros(len(questions), np.int64),
            classes=(),
            group=questions,  # time separates the queries of one user, not a split of users
            train=self.train,
            test=self.test,
            content=None if names is None else self._content(names),
            target=target,
            truth=self.came,
            popularity=self.learn.counts(),
            lengths=self.contexts.lengths,
            own=True,
        )

    @property
    def returns(self) -> int:
        """Test queries whose answer is in the context, and is missed wherever seen items are not recommended."""
        test = self.contexts.take(self.test)
        found = np.zeros(len(test), bool)
        for history, places in test.events():
            found[history[test.items[places] == self.came[self.test][history]]] = True
        return int(found.sum())

    def seal(self, names: Sequence[str], *, seed: int = 0) -> Seal:
        """The seal of the test events, which `sealed_places` finds again when users have further events."""
        people = np.array([names[user] for user in self.user[self.test].tolist()])
        everything = np.ones(len(self.test), np.int64)
        kept = seal(everything - 1, people, self._content(names)[self.test], seed=seed, split=everything)
        return replace(kept, source=EVENT_SEALS[self.how])

    def _content(self, names: Sequence[str]) -> NDArray[np.void]:
        place = self.contexts.lengths.tolist()
        return _hashes([(names[user], at) for user, at in zip(self.user.tolist(), place, strict=True)])


def leave_one_out(histories: Histories, *, validation: float = 1.0, seed: int = 0, sealed: Ints | None = None) -> Held:
    """Test the last event of every user; validate on the event before it, for a share of the users with three or more.

    `sealed` [U] are the positions of events to test instead, negative for users without one, whose events are all
    learned from. UserError where fewer than two users can be tested.
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
    """Hold out events, not users: the last ones, those after a cut-off, or those of an earlier seal.

    UserError where too few can be held out, or none of the sealed events is in the data.
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
    if sealed is not None and sealed.items != own.items:  # users have had further events since
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
    """Lines on the queries, and on those that the default target cannot answer."""
    held = split.held
    assert isinstance(held, Held)
    tested = len(held.test)
    few = f"; {held.left_out:,} {'has' if held.left_out == 1 else 'have'} too few events to be tested"
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
    """The position [U] of the sealed event in each history; -1 where there is none."""
    by_person = {of: item for item, of in kept.items.items()}
    place = np.full(len(histories), -1, np.int64)
    for user, length in enumerate(histories.lengths.tolist()):
        item = by_person.get(group_digest(names[user]))
        if item is not None:
            digests = (content_digests(_hashes([(names[user], at)]))[0] for at in range(length - 1, 0, -1))
            place[user] = next((length - 1 - back for back, digest in enumerate(digests) if digest == item), -1)
    return place


def _hashes(questions: Sequence[tuple[str, int]]) -> NDArray[np.void]:
    """Hash queries, which are identified by the user and the position of the event in the history."""
    texts = (f"{name}/{place}".encode() for name, place in questions)
    return np.array([hashlib.blake2b(text, digest_size=16).digest() for text in texts], "V16")


def by_time(
    histories: Histories,
    times: NDArray[Any],
    *,
    test: float = 0.1,
    validation: float = 0.1,
    sealed: Ints | None = None,
) -> Held:
    """Test after the cut-off that leaves the last share `test` of all events; validate on the share before it.

    `times` [E] belong to `histories.items`. With the positions `sealed` [U], see `leave_one_out`, the cut-off is the
    time of the first sealed event, whatever has happened since. UserError where fewer than two users can be tested.
    """
    moments = histories.moments(times, [1 - test - validation, 1 - test])
    if sealed is not None:
        moments[1] = times[(histories.start + sealed)[sealed >= 1]].min()
        share = float(_before(histories, times, moments[1]).sum() / histories.lengths.sum())
        [moments[0]] = histories.moments(times, [share * (1 - test - validation) / (1 - test)])
    early, late = (_before(histories, times, moment) for moment in moments)
    tested = _eligible(histories, late)
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
    """Number of events [U] of each history before a moment."""
    found = np.zeros(len(histories), np.int64)
    for history, places in histories.events():
        found += np.bincount(history[times[places] < moment], minlength=len(found))
    return found


def _eligible(histories: Histories, before: Ints) -> Ints:
    return np.flatnonzero((before > 0) & (before < histories.lengths))


def _held(
    how: Literal["last", "time"],
    histories: Histories,
    learned: Ints,
    validation: tuple[Ints, Ints],
    test: tuple[Ints, Ints],
) -> Held:
    """Make a `Held` from the end of the training events [U], and the users and positions of validation and test."""
    questions = [_some(*validation), _some(*test)]
    user, place = (np.concatenate(parts) for parts in zip(*questions, strict=True))
    n = len(questions[0][0])
    return Held(
        learn=Histories(histories.items, histories.start, learned, histories.n_items),
        contexts=Histories(histories.items, histories.start[user], place, histories.n_items),
        came=np.asarray(histories.items[place], np.int64),
        user=user,
        train=np.arange(n),
        test=np.arange(n, len(user)),
        left_out=len(histories) - len(test[0]),
        how=how,
    )


def _some(people: Ints, place: Ints) -> tuple[Ints, Ints]:
    """A random sample of at most `MOST` queries; more would hardly narrow the intervals."""
    if len(people) <= MOST:
        return people, place
    taken = np.sort(np.random.default_rng(0).permutation(len(people))[:MOST])
    return people[taken], place[taken]

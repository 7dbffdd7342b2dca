//! A sorted set that has outgrown a listpack: members ranked by score, and found by their bytes.
//!
//! Two structures hold the same members. A [dict](super::dict) owns them and leads from the bytes to the score; a
//! [tree](super::tree) of *marks* keeps the order, and since it counts what is below each node, it also tells ranks.
//!
//! ```text
//!   dict                                            tree
//!   hash(bytes) -> [ count | score | bytes ]  <---- [ 32 bits of the score | 4 more and a pointer ]
//!                  one allocation a member           10 bytes a mark, up to 152 in a leaf
//! ```
//! - A mark carries 36 bits of its score, turned so that they sort as numbers. A search looks at the first 32, side by side
//!   in the leaf; the others and the member itself are read only where those are equal. Scores between 2^-10 and 2^54 keep
//!   29 binary digits: integers up to a thousand million are told apart, and milliseconds of our time to two seconds.
//! - **Marks do not count their members**: the dict of the same sorted set owns them. So a leaf can be copied or split
//!   without a touch on a hundred members. It means that a tree is read only beside its dict: a snapshot has both, and
//!   lets go of both at once; and what leaves the dict has left the tree before.
//! - **A member is never changed under a snapshot's eyes**: it is if its count is one in a segment of the dict that is
//!   nobody else's; otherwise a new member takes its place in both structures, and the old one stays with the snapshot.
//!
//! A member of 18 bytes takes 32 here, about 10.6 in the dict, 11 in a leaf and a little above it: 55 bytes, where a
//! skiplist node, its string and a dict entry take more than 100.

mod member;
mod order;
mod pack;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::defrag::{Mover, Step};
use super::dict::{Dict, Entry, Filling, HashKey, Record, prefetch_read};
use super::tree::{Cursor, Leaf, Place, Tree};
pub use member::Member;
use member::{bytes_of, score_of};
pub use order::Gap;
use order::{Mark, Target, Word};
use pack::{JOINED_MAX, MARKS_MAX, Pack, SPARSE};

type Marks = Tree<Pack, Pack>;

/// Members read ahead of the one that is given.
const AHEAD: usize = 12;

/// See the head of the file.
#[derive(Clone)]
pub struct Ranked {
    /// What the dict has copied before the tally below was asked last.
    dict_copied: usize,
    left_behind: usize,
    /// The bytes of all members' allocations.
    member_bytes: usize,
    marks: Marks,
    members: Dict<Member>,
}

impl Ranked {
    /// An empty one.
    pub fn new(key: HashKey) -> Ranked {
        Ranked {
            dict_copied: 0,
            left_behind: 0,
            member_bytes: 0,
            marks: Tree::new(),
            members: Dict::new(key),
        }
    }

    /// One of these members, which come in order; its leaves are full. Of a member that comes twice, the first counts.
    pub fn from_sorted<'a>(
        key: HashKey,
        sorted: impl IntoIterator<Item = (&'a [u8], f64)>,
    ) -> Ranked {
        let sorted = sorted.into_iter();
        let expected = sorted.size_hint().0;
        let members = sorted.map(|(bytes, score)| Member::new(score, bytes));
        Ranked::from_members(key, expected, members)
    }

    /// As [`from_sorted`](Self::from_sorted), of about so many members that are made already.
    pub fn from_members(
        key: HashKey,
        expected: usize,
        sorted: impl IntoIterator<Item = Member>,
    ) -> Ranked {
        let mut made = Ranked::new(key);
        let mut filling = Filling::new(expected);
        let mut marks = Vec::with_capacity(MARKS_MAX);
        let mut packs = Vec::new();
        let mut sorted = sorted.into_iter().fuse();
        loop {
            for member in sorted.by_ref().take(MARKS_MAX - marks.len()) {
                marks.push(Mark::new(member.score(), member.ptr()));
                made.member_bytes += member.heap_bytes();
                filling.push(&mut made.members, member);
            }
            let is_last = marks.len() < MARKS_MAX;
            filling.flush(&mut made.members);
            for (_, twin) in filling.take_twins() {
                made.member_bytes -= twin.heap_bytes();
                marks.retain(|mark| mark.word.ptr() != twin.ptr());
            }
            if marks.len() == MARKS_MAX || is_last {
                packs.push(Pack::of(&marks));
                marks.clear();
            }
            if is_last {
                break;
            }
        }
        made.marks = Tree::from_leaves(packs);
        made
    }

    /// Shows some dozens of leaves of marks and their members, or a segment of the dict, to a mover. Where to go on:
    /// `None` at the end.
    pub fn defrag(&mut self, step: Step, mover: &mut Mover<'_>) -> Option<Step> {
        const DICT: u8 = 1;
        if step.part == DICT {
            let at = self.members.defrag(step.at, mover, |_, _| ())?;
            return Some(Step { at, ..step });
        }
        let members = &mut self.members;
        let next = self.marks.defrag_each(step.at, mover, |pack, mover| {
            for i in 0..pack.len() {
                let at = pack.mark(i).word.ptr();
                if !mover.wants(at) {
                    continue;
                }
                // SAFETY: the dict of the same sorted set owns the member.
                let bytes = unsafe { bytes_of(at) };
                let Some(member) = members.find_sole(members.hash(bytes), bytes) else {
                    continue;
                };
                if member.is_unique() {
                    member.carry(mover);
                    pack.readdress(i, Mark::new(member.score(), member.ptr()));
                }
            }
        });
        Some(next.map_or(Step::of(DICT), |at| Step { at, ..step }))
    }

    /// The number of members.
    #[inline]
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// True if there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// The score of a member.
    #[inline]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        let hash = self.members.hash(member);
        self.members.find(hash, member).map(Member::score)
    }

    /// Asks `f` for the score that a member shall have, given the one it has. `None`: nothing changes. A score that
    /// equals the old one changes nothing either.
    pub fn update(&mut self, member: &[u8], f: impl FnOnce(Option<f64>) -> Option<f64>) {
        let hash = self.members.hash(member);
        match self.members.entry(hash, member) {
            Entry::Vacant(vacant) => {
                let Some(score) = f(None) else { return };
                let new = Member::new(score, member);
                self.member_bytes += new.heap_bytes();
                let mark = Mark::new(score, new.ptr());
                vacant.insert(new);
                put(&mut self.marks, mark, score, member);
            }
            Entry::Occupied(mut occupied) => {
                let old = occupied.get().score();
                let Some(score) = f(Some(old)).filter(|&new| new != old) else {
                    return;
                };
                take(&mut self.marks, old, member);
                let mut record = occupied.get_mut();
                if record.is_unique() {
                    record.set_score(score);
                } else {
                    self.left_behind += record.heap_bytes();
                    *record = Member::new(score, member);
                }
                let mark = Mark::new(score, record.ptr());
                put(&mut self.marks, mark, score, member);
            }
        }
    }

    /// Removes a member; gives its score, if it was there.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let hash = self.members.hash(member);
        let Entry::Occupied(occupied) = self.members.entry(hash, member) else {
            return None;
        };
        let score = occupied.get().score();
        take(&mut self.marks, score, member);
        let gone = occupied.remove();
        self.let_go(&gone);
        Some(score)
    }

    /// A member that is out of the dict.
    fn let_go(&mut self, gone: &Member) {
        let bytes = gone.heap_bytes();
        self.member_bytes -= bytes;
        if !gone.is_unique() {
            self.left_behind += bytes;
        }
    }

    /// Removes the first member, or the last, and shows it to `f` with its score.
    pub fn pop<R>(&mut self, last: bool, f: impl FnOnce(&[u8], f64) -> R) -> Option<R> {
        let place = match last {
            false => self.marks.first_place(),
            true => self.marks.last_place(),
        }?;
        let pack = self.marks.leaf(&place)?;
        let i = if last { pack.len() - 1 } else { 0 };
        let word = pack.words()[i];
        if self.members.is_large() {
            self.look_ahead(pack, i, last);
        }
        self.marks.edit(&place, |pack| pack.remove(i));
        join_neighbour(&mut self.marks, &place);
        let gone = self.take_member(word);
        Some(f(gone.key(), gone.score()))
    }

    /// Who pops one member mostly pops the next ones soon: they are fetched from memory in three steps, a few pops apart,
    /// first the member, then the dict's tags, then its slot.
    #[inline]
    fn look_ahead(&self, pack: &Pack, i: usize, last: bool) {
        let words = pack.words();
        let ahead = |n: usize| match last {
            true => i.checked_sub(n).map(|i| words[i]),
            false => words.get(i + n).copied(),
        };
        let hash = |word: Word| {
            // SAFETY: a member with a mark is in the dict.
            self.members.hash(unsafe { bytes_of(word.ptr()) })
        };
        if let Some(word) = ahead(AHEAD) {
            prefetch_read(word.ptr().as_ptr());
        }
        if let Some(word) = ahead(AHEAD * 2 / 3) {
            self.members.prefetch_tags(hash(word));
        }
        if let Some(word) = ahead(AHEAD / 3) {
            self.members.prefetch_slot(hash(word));
        }
    }

    /// Takes a member out of the dict whose mark is out of the tree.
    fn take_member(&mut self, word: Word) -> Member {
        // SAFETY: the dict owns it until it gives it to us.
        let bytes = unsafe { bytes_of(word.ptr()) };
        let hash = self.members.hash(bytes);
        let gone = self
            .members
            .remove(hash, bytes)
            .expect("a mark's member is in the dict");
        self.let_go(&gone);
        gone
    }

    /// Removes the members of a range of ranks.
    pub fn remove_ranks(&mut self, ranks: Range<usize>) {
        let mut words: Vec<Word> = Vec::new();
        let removed = self.marks.remove_range(ranks, |pack, range| {
            words.extend_from_slice(&pack.words()[range.clone()]);
            pack.remove_range(range);
        });
        for word in words {
            self.take_member(word);
        }
        for pack in removed.leaves() {
            pack.prefetch(0..pack.len());
            for &word in pack.words() {
                self.take_member(word);
            }
        }
    }

    /// Empties it and gives what was in it, to be dropped where there is time for it.
    #[must_use = "dropping many members takes its time"]
    pub fn clear(&mut self) -> Ranked {
        self.dict_copied = 0;
        Ranked {
            dict_copied: 0,
            left_behind: 0,
            member_bytes: std::mem::take(&mut self.member_bytes),
            marks: self.marks.clear(),
            members: self.members.clear(),
        }
    }

    /// How many members stand before a gap.
    pub fn count_before(&self, gap: Gap<'_>) -> usize {
        match find(&self.marks, &Target::new(gap)) {
            Some((place, i)) => self.marks.index_of(&place) + i,
            None => 0,
        }
    }

    /// The rank of a member, counted from 0, and its score.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(member)?;
        Some((self.count_before(Gap::Before(score, member)), score))
    }

    /// The member of a rank, and its score.
    pub fn nth(&self, rank: usize) -> Option<(&[u8], f64)> {
        let (place, i) = self.marks.find_index(rank)?;
        let word = self.marks.leaf(&place)?.words()[i];
        // SAFETY: self is borrowed, and its dict owns the member.
        Some(unsafe { (bytes_of(word.ptr()), score_of(word.ptr())) })
    }

    /// The members of a range of ranks, in their order or from the last to the first.
    pub fn items(&self, ranks: Range<usize>, reverse: bool) -> Items<'_> {
        let ranks = ranks.start..ranks.end.min(self.len());
        let first = if reverse {
            ranks.end.saturating_sub(1)
        } else {
            ranks.start
        };
        let found = match ranks.is_empty() {
            true => None,
            false => self.marks.find_index(first),
        };
        let items = Items {
            place: found.and_then(|(place, i)| Some((self.marks.cursor(&place)?, i))),
            left: ranks.len(),
            reverse,
        };
        items.fetch_ahead();
        items
    }

    /// Calls `f` with some members from a cursor on, as [`Dict::scan`] does.
    pub fn scan(&self, cursor: u64, count: usize, mut f: impl FnMut(&[u8], f64)) -> u64 {
        self.members
            .scan(cursor, count, |member| f(member.key(), member.score()))
    }

    /// Bytes of memory of it and all it leads to, shared parts included.
    pub fn memory_bytes(&self) -> usize {
        self.member_bytes + self.marks.bytes() + self.members.memory_bytes()
    }

    /// The dict, to fetch its lines ahead and for its shape.
    pub fn dict(&self) -> &Dict<Member> {
        &self.members
    }

    /// Of these, what goes when this owner goes: what no snapshot shares.
    pub fn freed_by_drop(&self) -> usize {
        self.members.weight(Member::heap_bytes).freed_by_drop + self.marks.freed_by_drop()
    }

    /// Bytes that writes have left to other owners since this was last asked.
    pub fn take_left_behind(&mut self) -> usize {
        let copied = self.members.copied_bytes();
        // The dict's tally only grows, but begins anew when the dict becomes a larger kind.
        let more = copied.checked_sub(self.dict_copied).unwrap_or(copied);
        self.dict_copied = copied;
        std::mem::take(&mut self.left_behind) + self.marks.take_left_behind() + more
    }
}

/// The leaf that a gap lies in, and the index of the mark behind it (the leaf's length, if that is in the next leaf).
/// The members of all marks are alive: every tree of a [`Ranked`] stands beside its dict.
#[inline]
fn find(marks: &Marks, target: &Target<'_>) -> Option<(Place, usize)> {
    // SAFETY: said above; a key of the tree is the first mark of a leaf.
    let place = marks.find_key(|mark| unsafe { target.is_past(mark) })?;
    // SAFETY: said above.
    let i = unsafe { marks.leaf(&place)?.partition(target) };
    Some((place, i))
}

/// Puts the mark of a member in.
fn put(marks: &mut Marks, mark: Mark, score: f64, member: &[u8]) {
    match find(marks, &Target::new(Gap::Before(score, member))) {
        Some((place, i)) => marks.edit_split(&place, |pack| ((), pack.insert(i, mark))),
        None => marks.push_back(Pack::of(&[mark])),
    }
}

/// Takes the mark of a member out.
fn take(marks: &mut Marks, score: f64, member: &[u8]) {
    let found = find(marks, &Target::new(Gap::After(score, member)));
    let (place, behind) = found.expect("a member of the dict has a mark");
    marks.edit(&place, |pack| pack.remove(behind - 1));
    join_neighbour(marks, &place);
}

/// A leaf that has become sparse takes its neighbour's marks, if they are few.
#[inline]
fn join_neighbour(marks: &mut Marks, place: &Place) {
    // Every eighth removal looks.
    let len = marks.leaf(place).map_or(0, Leaf::len);
    if len <= SPARSE && len.is_multiple_of(8) {
        join_sparse(marks, place);
    }
}

#[cold]
fn join_sparse(marks: &mut Marks, place: &Place) {
    let next = marks.next_place(place).map(|next| (*place, next));
    let prev = marks.prev_place(place).map(|prev| (prev, *place));
    for (left, right) in next.into_iter().chain(prev) {
        let (Some(a), Some(b)) = (marks.leaf(&left), marks.leaf(&right)) else {
            continue;
        };
        if a.len() + b.len() <= JOINED_MAX {
            let moved = b.clone();
            marks.edit(&left, |pack| pack.append(&moved));
            drop(moved);
            // Emptied, it goes.
            marks.edit(&right, |pack| pack.remove_range(0..pack.len()));
            return;
        }
    }
}

/// Members with their scores, in order.
pub struct Items<'a> {
    /// The leaf, and the index in it of the next member.
    place: Option<(Cursor<'a, Pack, Pack>, usize)>,
    left: usize,
    reverse: bool,
}

impl<'a> Items<'a> {
    /// Fetches the first members that the leaf will give.
    fn fetch_ahead(&self) {
        if let Some((cursor, i)) = &self.place {
            let n = AHEAD.min(self.left);
            let range = match self.reverse {
                false => *i..*i + n,
                true => (*i + 1).saturating_sub(n)..*i + 1,
            };
            cursor.leaf().prefetch(range);
        }
    }

    /// Goes to the next leaf, if there are members left to give.
    #[cold]
    fn turn(&mut self) {
        let Some((mut cursor, _)) = self.place.take() else {
            return;
        };
        let next = match self.reverse {
            false => cursor.forward().map(|_| 0),
            true => cursor.backward().map(|pack| pack.len() - 1),
        };
        self.place = next.map(|i| (cursor, i));
        self.fetch_ahead();
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = (&'a [u8], f64);

    #[inline]
    fn next(&mut self) -> Option<(&'a [u8], f64)> {
        self.left = self.left.checked_sub(1)?;
        let (cursor, i) = self.place.as_mut()?;
        let pack = cursor.leaf();
        let at = *i;
        let word = pack.words()[at];
        let last = if self.reverse {
            *i = at.wrapping_sub(1);
            pack.prefetch(at.saturating_sub(AHEAD)..(at + 1).saturating_sub(AHEAD));
            at == 0
        } else {
            *i = at + 1;
            pack.prefetch(at + AHEAD..at + AHEAD + 1);
            at + 1 == pack.len()
        };
        if last && self.left > 0 {
            self.turn();
        }
        // SAFETY: the sorted set is borrowed for 'a, and its dict owns the member.
        Some(unsafe { (bytes_of(word.ptr()), score_of(word.ptr())) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Items<'_> {}

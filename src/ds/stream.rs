//! Streams: a log of entries by time, each a few fields and values, that many read at their own pace.
//!
//! # Macro nodes
//! An entry is small, and one allocation for each would cost more than the data. So entries lie by the hundred in
//! *macro nodes* ([`node`]), runs of bytes that state their fields once. The nodes are the leaves of a
//! [`Tree`](super::tree), found by the ID of their first entry. Nearly all writing is XADD, which appends to the last
//! node; when that is full (`stream-node-max-bytes`, `stream-node-max-entries`) it is cut to size and a new one begins.
//!
//! ```text
//! Stream ─ nodes ─▶ [ 5-0 | 7-2 | 9-0 ]                      tree, by ID
//!                     ▼     ▼     ▼
//!        | sensor temp | 5-0 | +1 | +3 | ... |               macro nodes
//!        ─ groups ─▶ name ─▶ Group                           see [`group`]
//! ```
//!
//! Entries leave from the front: XTRIM drops whole nodes, and (unless told `~`) cuts into the last of them. XDEL flags an
//! entry inside its node; the node goes when nothing is left in it.
//!
//! # What is counted
//! Besides its length a stream keeps the ID given last (so that IDs grow even over an emptied stream), the first ID there
//! is, the largest one that XDEL ever deleted, and how many entries were ever added. From these follows where a group
//! stands: its *lag*, the entries it has yet to read, is a subtraction as long as no deletion lies ahead of it.
//!
//! # Groups
//! Consumer groups ([`group`]) lie beside the entries and refer to them by ID only; a pending ID may be one whose entry
//! is long gone.
//!
//! # Copy on write
//! A clone counts one more owner of the tree's root and of the groups' chunks. Whoever writes then copies one macro
//! node (some 4 KB), or one run of a list of pending entries, and the path to it.

mod code;
mod group;
mod id;
mod names;
mod node;
mod pel;
mod radix;
mod range;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;

use super::defrag::{Mover, Step};
use super::listpack::Corrupt;
use super::tree::{Beside, Leaf, Place, Tree};
use crate::base::alloc::size_class;
pub use group::{Claim, Consumer, Group, Nack, Name};
pub use id::{IdText, NewId, StreamId};
use names::Names;

pub use node::{Entry, NODE_BYTES_MAX, Node, NodeLimits};
pub use range::{Range, RevRange};

impl Leaf for Node {
    type Key = StreamId;

    fn first_key(&self) -> StreamId {
        self.first_id()
    }

    /// Deleted ones count: a node in which trimming has left none still stands, until it is dropped as a node.
    fn len(&self) -> usize {
        self.entry_count()
    }

    fn heap_bytes(&self) -> usize {
        Node::heap_bytes(self) + size_class(size_of::<Node>() + 8, 8)
    }

    fn defrag(&mut self, mover: &mut Mover<'_>) {
        Node::defrag(self, mover);
    }
}

/// How far a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimTo {
    /// So many entries are left.
    MaxLen(u64),
    /// No entry before this ID is left.
    MinId(StreamId),
}

/// How a stream is trimmed.
#[derive(Clone, Copy, Debug)]
pub struct Trim {
    pub to: TrimTo,
    /// Whole nodes only.
    pub approximate: bool,
    /// At most so many entries; 0: no limit.
    pub limit: u64,
}

/// See the head of the file.
#[derive(Clone)]
pub struct Stream {
    nodes: Tree<Node>,
    length: u64,
    last_id: StreamId,
    first_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
    groups: Option<Box<Names<Group>>>,
    left_behind: usize,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Stream({} entries, {} groups)",
            self.length,
            self.group_count()
        )
    }
}

impl Default for Stream {
    fn default() -> Self {
        Stream::new()
    }
}

impl Stream {
    /// A stream without entries.
    pub const fn new() -> Stream {
        Stream {
            nodes: Tree::new(),
            length: 0,
            last_id: StreamId::MIN,
            first_id: StreamId::MIN,
            max_deleted_id: StreamId::MIN,
            entries_added: 0,
            groups: None,
            left_behind: 0,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The ID given last; `0-0` before the first.
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// The ID of the first entry; `0-0` if there is none.
    pub fn first_id(&self) -> StreamId {
        self.first_id
    }

    /// The largest ID that was ever deleted from within.
    pub fn max_deleted_id(&self) -> StreamId {
        self.max_deleted_id
    }

    /// How many entries were ever added.
    pub fn entries_added(&self) -> u64 {
        self.entries_added
    }

    /// The macro nodes in order.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.leaves()
    }

    /// How many macro nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.leaf_count()
    }

    /// The ID that an entry added at `now_ms` gets; `None` if there is none left.
    pub fn next_id(&self, new: NewId, now_ms: u64) -> Option<StreamId> {
        let id = match new {
            NewId::Given(id) => id,
            NewId::Auto if now_ms > self.last_id.ms => StreamId::new(now_ms, 0),
            NewId::Auto => self.last_id.next()?,
            NewId::AutoSeq(ms) if ms == self.last_id.ms => {
                StreamId::new(ms, self.last_id.seq.checked_add(1)?)
            }
            NewId::AutoSeq(ms) => StreamId::new(ms, 0),
        };
        (id > self.last_id).then_some(id)
    }

    /// Adds an entry, fields and values in turn, under an ID larger than the last one.
    pub fn append(&mut self, id: StreamId, pairs: &[&[u8]], limits: NodeLimits) {
        debug_assert!(id > self.last_id && pairs.len().is_multiple_of(2));
        let bytes = pairs.iter().map(|text| text.len()).sum();
        match self.nodes.last_place() {
            Some(place) => self.nodes.edit_split(&place, |node| {
                if node.has_room(bytes, limits) {
                    node.append(id, pairs);
                    return ((), Beside::Nothing);
                }
                node.seal();
                ((), Beside::After(Node::new(id, pairs)))
            }),
            None => self.nodes.push_back(Node::new(id, pairs)),
        }
        self.length += 1;
        self.entries_added += 1;
        self.last_id = id;
        if self.length == 1 {
            self.first_id = id;
        }
    }

    // --- Reading -----------------------------------------------------------------------------------------------

    /// The entries from `start` to `end`, both included.
    pub fn range(&self, start: StreamId, end: StreamId) -> Range<'_> {
        Range::new(&self.nodes, start, end)
    }

    /// The same from the end on.
    pub fn rev_range(&self, start: StreamId, end: StreamId) -> RevRange<'_> {
        RevRange::new(&self.nodes, start, end)
    }

    fn node_of(&self, id: StreamId) -> Option<Place> {
        self.nodes.find_key(|first| *first <= id)
    }

    /// The entry with that ID.
    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.nodes.leaf(&self.node_of(id)?)?.find(id)
    }

    /// True if there is an entry with that ID.
    pub fn contains(&self, id: StreamId) -> bool {
        self.get(id).is_some()
    }

    /// The ID of the last entry that is still there.
    pub fn last_live_id(&self) -> Option<StreamId> {
        let mut nodes = self.nodes.leaves().rev();
        nodes.find_map(Node::last_live_id)
    }

    /// The ID of the first place in the stream, be its entry deleted or not.
    pub fn first_place_id(&self) -> Option<StreamId> {
        Some(self.nodes.first()?.entries().next()?.id)
    }

    fn find_first_id(&self) -> StreamId {
        let mut nodes = self.nodes.leaves();
        let first = nodes.find_map(Node::first_live);
        first.map_or(StreamId::MIN, |entry| entry.id)
    }

    /// The number of nodes that Redis's radix tree would have for these macro nodes.
    pub fn radix_nodes(&self) -> usize {
        radix::node_count(self.nodes.leaves().map(Node::first_id))
    }

    // --- Removing ----------------------------------------------------------------------------------------------

    /// Deletes the entries with these IDs, as far as there are any; how many it were.
    pub fn delete(&mut self, ids: &[StreamId]) -> u64 {
        let (mut deleted, mut first_went) = (0, false);
        for &id in ids {
            if self.delete_one(id) {
                deleted += 1;
                first_went |= id == self.first_id;
                self.max_deleted_id = self.max_deleted_id.max(id);
            }
        }
        if first_went || self.length == 0 {
            self.first_id = self.find_first_id();
        }
        deleted
    }

    fn delete_one(&mut self, id: StreamId) -> bool {
        let Some(place) = self.node_of(id) else {
            return false;
        };
        let Some(node) = self.nodes.leaf(&place) else {
            return false;
        };
        let Some(at) = node.find(id).map(|entry| entry.place()) else {
            return false;
        };
        if node.live() == 1 {
            self.nodes.remove_leaf(&place);
        } else {
            self.nodes.edit(&place, |node| node.delete_at(at));
        }
        self.length -= 1;
        true
    }

    /// Trims from the front; how many entries went, and the nodes that did, which are dear to free if they are many.
    #[must_use = "dropping many nodes takes its time"]
    pub fn trim(&mut self, trim: Trim) -> (u64, Stream) {
        let (mut deleted, cut) = self.whole_nodes_to_trim(trim);
        let removed = match self.nodes.first_place() {
            Some(first) if cut != Some(first) => self.nodes.remove_leaves(&first, cut.as_ref()),
            _ => Tree::new(),
        };
        self.length -= deleted;
        if !trim.approximate && self.wants_more(trim, deleted) {
            let inside = self.trim_inside(trim);
            self.length -= inside;
            deleted += inside;
        }
        if self.length == 0 {
            self.first_id = StreamId::MIN;
        } else if deleted > 0 {
            self.first_id = self.find_first_id();
        }
        let removed = Stream {
            nodes: removed,
            ..Stream::new()
        };
        (deleted, removed)
    }

    /// The nodes at the front that go as a whole: how many entries they hold, and the first node that stays.
    fn whole_nodes_to_trim(&self, trim: Trim) -> (u64, Option<Place>) {
        if self.nodes.len() as u64 != self.length {
            return self.walk_nodes_to_trim(trim);
        }
        // Nothing in there is deleted, so that the tree's sums are those of entries.
        let limit = match trim.limit {
            0 => u64::MAX,
            limit => limit,
        };
        let entries = match trim.to {
            TrimTo::MaxLen(max) => self.length.saturating_sub(max),
            TrimTo::MinId(min) => self.entries_of_nodes_before(min),
        };
        match self.nodes.find_index(entries.min(limit) as usize) {
            Some((first, _)) => (self.nodes.index_of(&first) as u64, Some(first)),
            None => (self.length, None),
        }
    }

    /// The entries of the nodes that end before an ID, deleted ones included.
    fn entries_of_nodes_before(&self, id: StreamId) -> u64 {
        let Some(place) = self.node_of(id) else {
            return 0;
        };
        let node = self.nodes.leaf(&place);
        let its = node.filter(|node| node.last_id() < id);
        (self.nodes.index_of(&place) + its.map_or(0, Node::entry_count)) as u64
    }

    /// The same where some are deleted: node by node, as Redis does it.
    fn walk_nodes_to_trim(&self, trim: Trim) -> (u64, Option<Place>) {
        let mut deleted = 0;
        let first = self.nodes.first_place();
        let Some(mut cursor) = first.and_then(|first| self.nodes.cursor(&first)) else {
            return (0, None);
        };
        loop {
            let node = cursor.leaf();
            let live = node.live() as u64;
            let goes = match trim.to {
                TrimTo::MaxLen(max) => {
                    let left = self.length - deleted;
                    left > max && left - live >= max
                }
                TrimTo::MinId(min) => node.last_id() < min,
            };
            if !goes || (trim.limit > 0 && deleted + live > trim.limit) {
                return (deleted, Some(cursor.place()));
            }
            deleted += live;
            if cursor.forward().is_none() {
                return (deleted, None);
            }
        }
    }

    /// True if an exact trimming that has deleted so many has not reached its end yet.
    fn wants_more(&self, trim: Trim, deleted: u64) -> bool {
        let Some(node) = self.nodes.first() else {
            return false;
        };
        if trim.limit > 0 && deleted + node.live() as u64 > trim.limit {
            return false;
        }
        match trim.to {
            TrimTo::MaxLen(max) => self.length > max,
            TrimTo::MinId(min) => node.first_id() < min,
        }
    }

    /// Deletes within the first node.
    fn trim_inside(&mut self, trim: Trim) -> u64 {
        let Some(first) = self.nodes.first_place() else {
            return 0;
        };
        let length = self.length;
        self.nodes.edit(&first, |node| match trim.to {
            TrimTo::MaxLen(max) => {
                let too_many = usize::try_from(length - max).unwrap_or(usize::MAX);
                node.delete_front(too_many, None) as u64
            }
            TrimTo::MinId(min) => node.delete_front(usize::MAX, Some(min)) as u64,
        })
    }

    // --- What is counted ---------------------------------------------------------------------------------------

    /// Sets the last ID, and if given how many entries were added and the largest ID deleted (XSETID).
    pub fn set_ids(
        &mut self,
        last_id: StreamId,
        entries_added: Option<u64>,
        max_deleted_id: Option<StreamId>,
    ) {
        self.last_id = last_id;
        self.entries_added = entries_added.unwrap_or(self.entries_added);
        self.max_deleted_id = max_deleted_id.unwrap_or(self.max_deleted_id);
    }

    /// True if some entry was deleted from `start` on, as far as is known: an ID larger than the last may lie ahead.
    fn deleted_from(&self, start: StreamId) -> bool {
        let max = self.max_deleted_id;
        self.length > 0 && !max.is_zero() && self.first_id <= max && start <= max
    }

    /// How many entries were ever added up to an ID; `None` if that cannot be known.
    pub fn entries_up_to(&self, id: StreamId) -> Option<i64> {
        let added = self.entries_added as i64;
        if added == 0 {
            return Some(0);
        }
        if (self.length == 0 && id <= self.last_id) || id == self.last_id {
            return Some(added);
        }
        if id > self.last_id
            || (!self.max_deleted_id.is_zero() && self.max_deleted_id >= self.first_id)
        {
            return None;
        }
        // Nothing was deleted but from the front.
        match id.cmp(&self.first_id) {
            Ordering::Less => Some(added - self.length as i64),
            Ordering::Equal => Some(added - self.length as i64 + 1),
            Ordering::Greater => None,
        }
    }

    /// How many entries a group has yet to read; `None` if that cannot be known.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        let added = self.entries_added as i64;
        if added == 0 {
            return Some(0);
        }
        match group.entries_read {
            Some(read) if !self.deleted_from(group.last_id) => Some(added.wrapping_sub(read)),
            _ => Some(added - self.entries_up_to(group.last_id)?),
        }
    }

    /// Notes in a group that it has read entries, whose IDs are in order. Those that it had read before do not count.
    pub fn note_read(&mut self, group: &[u8], ids: &[StreamId]) {
        let Some((last_id, mut read)) = self.group(group).map(|g| (g.last_id, g.entries_read))
        else {
            return;
        };
        let new = &ids[ids.partition_point(|id| *id <= last_id)..];
        let Some(&last) = new.last() else {
            return;
        };
        for &id in new {
            match &mut read {
                Some(n) if !self.deleted_from(id) => *n = n.wrapping_add(1),
                _ if self.entries_added > 0 => read = self.entries_up_to(id),
                _ => {}
            }
        }
        self.change_group(group, |group| {
            group.last_id = last;
            group.entries_read = read;
        });
    }

    // --- Groups ------------------------------------------------------------------------------------------------

    /// How many groups there are.
    pub fn group_count(&self) -> usize {
        self.groups.as_ref().map_or(0, |groups| groups.len())
    }

    /// The groups, by name.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().flat_map(|groups| groups.iter())
    }

    /// The group of that name.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.as_ref()?.get(name)
    }

    /// Changes the group of that name; `None` if there is none.
    pub fn change_group<R>(&mut self, name: &[u8], f: impl FnOnce(&mut Group) -> R) -> Option<R> {
        let group = self.groups.as_mut()?.get_mut(name)?;
        let result = f(group);
        self.left_behind += group.take_left_behind();
        Some(result)
    }

    /// Adds a group; false if there is one of that name.
    pub fn add_group(&mut self, group: Group) -> bool {
        let groups = self.groups.get_or_insert_with(|| Box::new(Names::new()));
        groups.insert(group)
    }

    /// Removes a group, and gives it: its list may be dear to free.
    pub fn remove_group(&mut self, name: &[u8]) -> Option<Stream> {
        let group = self.groups.as_mut()?.remove(name)?;
        let mut removed = Stream::new();
        removed.add_group(Group::clone(&group));
        Some(removed)
    }

    // --- Files -------------------------------------------------------------------------------------------------

    /// A stream of macro nodes that were read from a file, in order of their IDs; everything else is set after it. An
    /// error if the order is broken.
    pub fn from_nodes(nodes: impl IntoIterator<Item = Node>) -> Result<Stream, Corrupt> {
        let nodes: Vec<Node> = nodes.into_iter().collect();
        let in_order = nodes.is_sorted_by(|a, b| a.last_id() < b.first_id());
        if !in_order || nodes.iter().any(|node| node.entry_count() == 0) {
            return Err(Corrupt);
        }
        let length = nodes.iter().map(|node| node.live() as u64).sum();
        let last_id = nodes.last().map_or(StreamId::MIN, Node::last_id);
        let mut stream = Stream {
            nodes: Tree::from_leaves(nodes),
            length,
            last_id,
            entries_added: length,
            ..Stream::new()
        };
        stream.first_id = stream.find_first_id();
        Ok(stream)
    }

    // --- Memory ------------------------------------------------------------------------------------------------

    /// Bytes of memory behind it, its own struct not counted.
    pub fn heap_bytes(&self) -> usize {
        let groups = self.groups.as_ref();
        self.nodes.bytes() + groups.map_or(0, |groups| groups.estimate(Group::memory_bytes))
    }

    /// Shows blocks to a mover, some dozens of nodes or a chunk of groups from `step` on. Where to go on: `None` at the end.
    pub fn defrag(&mut self, step: Step, mover: &mut Mover<'_>) -> Option<Step> {
        const GROUPS: u8 = 1;
        if step.part < GROUPS {
            let next = self.nodes.defrag(step.at, mover);
            return Some(next.map_or(Step::of(GROUPS), |at| Step { at, ..step }));
        }
        let groups = self.groups.as_mut()?;
        if step.at == 0 {
            mover.boxed(groups);
        }
        let next = groups.defrag(step.at, mover, Group::defrag)?;
        Some(Step { at: next, ..step })
    }

    /// About how many allocations freeing it touches.
    pub fn free_effort(&self) -> usize {
        let groups = self.groups.as_ref();
        let of_groups = groups.map_or(0, |groups| groups.estimate(Group::free_effort));
        1 + 2 * self.nodes.leaf_count() + of_groups
    }

    /// Bytes that writes since the last call have left to other owners.
    pub fn take_left_behind(&mut self) -> usize {
        std::mem::take(&mut self.left_behind) + self.nodes.take_left_behind()
    }
}

//! Quicklist: a long list as a row of listpacks.
//!
//! One listpack of a million elements would move megabytes for each insertion, one allocation for each element would
//! take three times the memory. So the list is cut into nodes of some kilobytes, and the nodes hang in a
//! [`Tree`](super::tree) that knows how many elements each part holds: element n is found in O(log n), and a snapshot
//! shares every node that was not written since.
//!
//! ```text
//!                      tree: 5 elements
//!            /              |             \
//!   | a | b | c |        "big..."      | LZF of | x | y | ... | |
//!     packed node       whole node        compressed node
//! ```
//!
//! - A *packed* node is a listpack. [`Limits`] say how large it may become (`list-max-listpack-size`).
//! - An element at or above the *plain threshold* (a gigabyte, unless DEBUG QUICKLIST-PACKED-THRESHOLD lowers it) has a
//!   *plain* node: its bytes as they are.
//! - A *whole* node is either that, or what ought to be a packed node of one element that came in a buffer of its
//!   own: it stays in that buffer until something else joins it.
//! - The nodes at the ends may stand *apart* from the tree while they are pushed to or popped from (see `ends`).
//! - With a compress depth of n (`list-compress-depth`), all nodes but the first and last n are compressed, if that
//!   saves anything. They are unpacked for a look and while they are changed.
//!
//! When a node is split, filled or merged with another is decided exactly as Redis decides it, since the number of nodes
//! has a visible consequence: only a list of one node may become a plain listpack again.

mod ends;
mod node;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::{ControlFlow, Range};

use bytes::Bytes;

use super::cow::Shared;
use super::defrag::{Mover, Step};
use super::listpack::{Elem, Listpack, Needle};
use super::tree::{Beside, Leaf, Place, Tree};
pub use node::{Node, Whole, pop_elem, remove_matches};

/// How large a node with several elements may be, whatever the limit on their number.
const SAFE_BYTES_MAX: usize = 8192;
/// What an element may take besides its text: an estimate, and part of the rules.
const ENTRY_OVERHEAD: usize = 8;

/// How much a node may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    Bytes(usize),
    /// 0 is as good as 1.
    Count(usize),
}

impl Limits {
    /// What `list-max-listpack-size` says: a number of elements, or from -1 to -5 a size of 4 to 64 KB.
    pub fn new(fill: i32) -> Limits {
        match fill {
            0.. => Limits::Count(fill as usize),
            _ => Limits::Bytes(4096 << (fill.saturating_neg().min(5) - 1)),
        }
    }

    /// The value of `list-max-listpack-size` that says this.
    pub fn fill(self) -> i32 {
        match self {
            Limits::Count(max) => i32::try_from(max).unwrap_or(i32::MAX),
            Limits::Bytes(max) => -(max / 4096).max(1).ilog2().cast_signed() - 1,
        }
    }

    /// True if a listpack of so many bytes and elements is beyond the limit.
    pub fn exceeded(self, bytes: usize, count: usize) -> bool {
        match self {
            Limits::Bytes(max) => bytes > max,
            Limits::Count(max) => bytes > SAFE_BYTES_MAX || count > max.max(1),
        }
    }

    /// True if a shrinking list of so many bytes and elements may become a plain listpack: at half the limit, lest it
    /// go to and fro.
    pub fn half_kept(self, bytes: usize, count: usize) -> bool {
        match self {
            Limits::Bytes(max) => bytes <= max / 2,
            Limits::Count(max) => count <= max.max(1) / 2,
        }
    }
}

/// The two ends of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Head,
    Tail,
}

/// An element on its way into a list: its text, and the buffer of its own that it came in, if any.
#[derive(Clone, Copy, Debug)]
pub struct NewElem<'a> {
    pub text: &'a [u8],
    pub own: Option<&'a Bytes>,
}

impl<'a> From<&'a [u8]> for NewElem<'a> {
    fn from(text: &'a [u8]) -> Self {
        NewElem { text, own: None }
    }
}

/// An element as it is read.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    Elem(Elem<'a>),
    /// One that has a buffer of its own.
    Whole(&'a Bytes),
}

impl Item<'_> {
    /// True if it is the text sought.
    #[inline(always)]
    pub fn is(self, needle: &Needle<'_>) -> bool {
        match self {
            Item::Elem(elem) => needle.is(elem),
            Item::Whole(bytes) => bytes == needle.text(),
        }
    }

    /// The text.
    pub fn to_vec(self) -> Vec<u8> {
        match self {
            Item::Elem(elem) => elem.to_vec(),
            Item::Whole(bytes) => bytes.to_vec(),
        }
    }
}

/// See the head of the file.
#[derive(Clone)]
pub struct Quicklist {
    /// All nodes but those that stand apart.
    nodes: Tree<Node>,
    /// The node before the tree and the one behind it, where they stand apart.
    head: Option<Shared<Node>>,
    tail: Option<Shared<Node>>,
    /// How many elements these two have.
    apart: usize,
    limits: Limits,
    /// How many nodes at either end stay uncompressed; 0: none is compressed.
    depth: usize,
}

impl Quicklist {
    /// A list of one node, or of none if the listpack is empty. `fill` and `depth` are those of the directives
    /// `list-max-listpack-size` and `list-compress-depth`; the list keeps them.
    pub fn from_listpack(lp: Listpack, fill: i32, depth: u32) -> Quicklist {
        Quicklist {
            nodes: Tree::from_leaves([Node::Packed(lp)]),
            head: None,
            tail: None,
            apart: 0,
            limits: Limits::new(fill.min(i32::from(i16::MAX))),
            depth: depth.min(u32::from(u16::MAX)) as usize,
        }
    }

    /// A list of these nodes, none of them empty, as they come from a file; those in the middle are compressed.
    pub fn from_nodes(nodes: impl IntoIterator<Item = Node>, fill: i32, depth: u32) -> Quicklist {
        let mut list = Quicklist::from_listpack(Listpack::new(), fill, depth);
        let mut nodes: Vec<Node> = nodes.into_iter().collect();
        let inner = list.depth..nodes.len().saturating_sub(list.depth);
        if list.depth > 0 && !inner.is_empty() {
            for node in &mut nodes[inner] {
                if let Some(small) = node.compressed() {
                    *node = small;
                }
            }
        }
        list.nodes = Tree::from_leaves(nodes);
        list
    }

    /// The listpack, if there is one node, packed, and `fits` says yes to its size in bytes.
    pub fn to_listpack(&self, fits: impl FnOnce(usize) -> bool) -> Option<Listpack> {
        match self.nodes().next() {
            Some(node) if self.node_count() == 1 && !node.is_plain() && fits(node.size()) => {
                Some(node.clone().into_packed())
            }
            _ => None,
        }
    }

    /// The number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.nodes.len() + self.apart
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The nodes in order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = &Node> {
        let (head, tail) = (self.head.as_deref(), self.tail.as_deref());
        head.into_iter().chain(self.nodes.leaves()).chain(tail)
    }

    /// The number of nodes.
    #[inline]
    pub fn node_count(&self) -> usize {
        let apart = usize::from(self.head.is_some()) + usize::from(self.tail.is_some());
        self.nodes.leaf_count() + apart
    }

    /// What `list-max-listpack-size` was when the list got its nodes.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// How many nodes at either end stay uncompressed.
    pub fn compress_depth(&self) -> usize {
        self.depth
    }

    /// The bytes of all nodes, those shared with snapshots included.
    pub fn memory_bytes(&self) -> usize {
        let apart = [&self.head, &self.tail].into_iter().flatten();
        self.nodes.bytes() + apart.map(|node| node.heap_bytes()).sum::<usize>()
    }

    /// Of these, what goes when this list goes.
    pub fn freed_by_drop(&self) -> usize {
        let apart = [&self.head, &self.tail].into_iter().flatten();
        let own = apart.filter(|node| Shared::is_unique(node));
        let own: usize = own.map(|node| node.heap_bytes()).sum();
        (self.nodes.freed_by_drop() + own).min(self.memory_bytes())
    }

    /// Shows some dozens of nodes from `step` on to a mover. Where to go on: `None` at the end.
    pub fn defrag(&mut self, step: Step, mover: &mut Mover<'_>) -> Option<Step> {
        if step == Step::default() {
            for node in [&mut self.head, &mut self.tail].into_iter().flatten() {
                if let Some(node) = Shared::defrag(node, mover) {
                    node.defrag(mover);
                }
            }
        }
        let at = self.nodes.defrag(step.at, mover)?;
        Some(Step { at, ..step })
    }

    /// The bytes that writes since the last call have left to snapshots.
    pub fn take_left_behind(&mut self) -> usize {
        self.nodes.take_left_behind()
    }

    /// Reads the elements from number `from` on, towards `towards`, until `f` breaks off.
    #[inline]
    pub fn walk(&self, from: usize, towards: End, mut f: impl FnMut(Item<'_>) -> ControlFlow<()>) {
        if from < self.len() {
            let _ = match towards {
                End::Tail => self.walk_forward(from, &mut f),
                End::Head => self.walk_backward(from, &mut f),
            };
        }
    }

    #[inline]
    fn walk_forward(
        &self,
        from: usize,
        f: &mut impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let before_tree = self.head.as_ref().map_or(0, |node| node.len());
        if let Some(node) = &self.head
            && from < before_tree
        {
            node.walk_forward(from, f)?;
        }
        let from = from.saturating_sub(before_tree);
        self.walk_tree(from, End::Tail, f)?;
        match &self.tail {
            Some(node) => node.walk_forward(from.saturating_sub(self.nodes.len()), f),
            None => ControlFlow::Continue(()),
        }
    }

    #[inline]
    fn walk_backward(
        &self,
        from: usize,
        f: &mut impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let before_tree = self.head.as_ref().map_or(0, |node| node.len());
        let before_tail = before_tree + self.nodes.len();
        if let Some(node) = &self.tail
            && from >= before_tail
        {
            node.walk_backward(from - before_tail, f)?;
        }
        if from >= before_tree && before_tail > before_tree {
            self.walk_tree(from.min(before_tail - 1) - before_tree, End::Head, f)?;
        }
        match &self.head {
            Some(node) => node.walk_backward(from.min(before_tree - 1), f),
            None => ControlFlow::Continue(()),
        }
    }

    /// Reads what is in the tree.
    #[inline]
    fn walk_tree(
        &self,
        from: usize,
        towards: End,
        f: &mut impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some((place, at)) = self.nodes.find_index(from) else {
            return ControlFlow::Continue(());
        };
        let Some(mut cursor) = self.nodes.cursor(&place) else {
            return ControlFlow::Continue(());
        };
        match towards {
            End::Tail => cursor.leaf().walk_forward(at, f)?,
            End::Head => cursor.leaf().walk_backward(at, f)?,
        }
        loop {
            let next = match towards {
                End::Tail => cursor.forward(),
                End::Head => cursor.backward(),
            };
            match (next, towards) {
                (Some(node), End::Tail) => node.walk_forward(0, f)?,
                (Some(node), End::Head) => node.walk_backward(node.len() - 1, f)?,
                (None, _) => return ControlFlow::Continue(()),
            }
        }
    }
}

impl fmt::Debug for Quicklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.nodes()).finish()
    }
}

/// Changing in the middle, for which the nodes at the ends come back into the tree.
impl Quicklist {
    /// Takes a range of elements out, and gives the whole nodes that they filled, to be dropped where there is time for it.
    #[must_use = "dropping many nodes takes its time"]
    pub fn remove_range(&mut self, range: Range<usize>) -> Quicklist {
        self.gather();
        let nodes = self.nodes.leaf_count();
        let start = range.start;
        let removed = self.nodes.remove_range(range, Node::cut);
        self.settle(nodes);
        self.compress_around(start);
        Quicklist {
            nodes: removed,
            head: None,
            tail: None,
            ..*self
        }
    }

    /// Puts an element before or behind element `index`, which is there.
    pub fn insert(&mut self, index: usize, before: bool, new: NewElem<'_>, plain_from: usize) {
        self.gather();
        let Some((place, at)) = self.nodes.find_index(index) else {
            return;
        };
        let nodes = self.nodes.leaf_count();
        let node = self.leaf(&place);
        let full = !node.has_room_for(new.text.len(), self.limits, plain_from);
        let at_edge = if before {
            at == 0
        } else {
            at + 1 == node.len()
        };
        let first = index - at;
        if !full {
            self.nodes.edit(&place, |node| {
                node.insert(at + usize::from(!before), Elem::Str(new.text))
            });
        } else if at_edge && new.text.len() < plain_from {
            self.insert_beside(&place, before, new, plain_from);
        } else if at_edge && before {
            self.nodes.insert_before(&place, Node::of(new, plain_from));
        } else if at_edge {
            self.nodes.insert_after(&place, Node::of(new, plain_from));
        } else if new.text.len() >= plain_from {
            let kept = at + usize::from(!before);
            let rest = self
                .nodes
                .edit(&place, |node| node.packed().split_off(kept));
            self.nodes.insert_after(&place, Node::Packed(rest));
            // The place may have moved, but not the elements before it.
            if let Some((place, _)) = self.nodes.find_index(first) {
                self.nodes.insert_after(&place, Node::of(new, plain_from));
            }
        } else {
            // What goes to the new node gets the new element as well.
            self.nodes.edit_split(&place, |node| {
                let packed = node.packed();
                let mut rest = packed.split_off(at + usize::from(!before));
                let beside = if before {
                    std::mem::swap(packed, &mut rest);
                    rest.push_back(Elem::Str(new.text));
                    Beside::Before(Node::Packed(rest))
                } else {
                    rest.push_front(Elem::Str(new.text));
                    Beside::After(Node::Packed(rest))
                };
                ((), beside)
            });
            // The node that was split is the middle of what may be merged.
            self.merge_around(if before { first + at + 1 } else { first });
        }
        self.settle(nodes);
        self.compress_around(index);
    }

    /// Puts an element beside a full node: into the neighbour, if that has room, else into a node between them.
    fn insert_beside(&mut self, place: &Place, before: bool, new: NewElem<'_>, plain_from: usize) {
        let neighbour = if before {
            self.nodes.prev_place(place)
        } else {
            self.nodes.next_place(place)
        };
        let room = |place: &Place| {
            let node = self.leaf(place);
            node.has_room_for(new.text.len(), self.limits, plain_from)
        };
        match neighbour.filter(room) {
            Some(neighbour) => {
                let end = if before { End::Tail } else { End::Head };
                let push = |node: &mut Node| node.push(end, Elem::Str(new.text));
                self.nodes.edit(&neighbour, push);
            }
            None if before => self.nodes.insert_before(place, Node::of(new, plain_from)),
            None => self.nodes.insert_after(place, Node::of(new, plain_from)),
        }
    }

    /// Puts another element in the place of element `index`, which is there.
    pub fn replace(&mut self, index: usize, new: NewElem<'_>, plain_from: usize) {
        self.gather();
        let Some((place, at)) = self.nodes.find_index(index) else {
            return;
        };
        let nodes = self.nodes.leaf_count();
        let node = self.leaf(&place);
        let plain = new.text.len() >= plain_from;
        match (node.is_plain(), plain) {
            (false, false) => self.nodes.edit(&place, |node| node.replace(at, new)),
            (true, true) => self
                .nodes
                .edit(&place, |node| *node = Node::of(new, plain_from)),
            (true, false) => {
                self.insert(index, false, new, plain_from);
                drop(self.remove_range(index..index + 1));
            }
            (false, true) => {
                // The node keeps what lies before the element, its rest goes behind the new one.
                self.insert(index, false, new, plain_from);
                drop(self.remove_range(index..index + 1));
                if at > 0 {
                    self.merge_around(index);
                }
            }
        }
        self.settle(nodes);
        self.compress_around(index);
    }

    /// Takes out up to `max` elements that are `needle`, from one end on. Gives how many they were.
    pub fn remove_matches(&mut self, needle: &Needle<'_>, from: End, max: usize) -> usize {
        self.gather();
        let nodes = self.nodes.leaf_count();
        let mut removed = 0;
        // Elements passed, counted from that end.
        let mut passed = 0;
        while removed < max && passed < self.len() {
            let index = match from {
                End::Head => passed,
                End::Tail => self.len() - 1 - passed,
            };
            let Some((place, _)) = self.nodes.find_index(index) else {
                break;
            };
            let node = self.leaf(&place);
            let before = node.len();
            if !node.holds(needle) {
                passed += before;
                continue;
            }
            let first = self.nodes.index_of(&place);
            let gone = self.nodes.edit(&place, |node| {
                node.remove_matches(needle, from, max - removed)
            });
            if gone < before {
                self.compress_again(first);
            }
            removed += gone;
            passed += before - gone;
        }
        self.settle(nodes);
        removed
    }

    /// Merges nodes as far as limits allow, around the one that holds element `index`: its two neighbours on the
    /// left, those on the right, then itself with the one before, then with the one behind.
    fn merge_around(&mut self, index: usize) {
        let Some((centre, at)) = self.nodes.find_index(index) else {
            return;
        };
        let left = self.nodes.prev_place(&centre);
        if let Some(left) = &left
            && let Some(far) = self.nodes.prev_place(left)
        {
            self.merge(&far, left);
        }
        // Places are stale after a merge, the index is not.
        let first = index - at;
        let find = |list: &Quicklist| list.nodes.find_index(first).map(|(place, _)| place);
        if let Some(right) = find(self).and_then(|p| self.nodes.next_place(&p))
            && let Some(far) = self.nodes.next_place(&right)
        {
            self.merge(&right, &far);
        }
        if let Some(centre) = find(self)
            && let Some(left) = self.nodes.prev_place(&centre)
        {
            self.merge(&left, &centre);
        }
        if let Some(centre) = find(self)
            && let Some(right) = self.nodes.next_place(&centre)
        {
            self.merge(&centre, &right);
        }
    }

    /// Merges two neighbours if the limits allow it.
    fn merge(&mut self, a: &Place, b: &Place) {
        let (left, right) = (self.leaf(a), self.leaf(b));
        if left.is_plain() || right.is_plain() {
            return;
        }
        let bytes = left.size() + right.size() - Listpack::EMPTY_BYTES;
        if self.limits.exceeded(bytes, left.len() + right.len()) {
            return;
        }
        let moved = right.clone().into_packed();
        self.nodes.edit(a, |node| node.packed().append(&moved));
        self.nodes.remove_leaf(b);
    }

    fn leaf(&self, place: &Place) -> &Node {
        self.nodes.leaf(place).expect("a place of this tree")
    }
}

/// Compression.
impl Quicklist {
    /// After a change: `nodes` is how many nodes there were before. If that is not so any more, others stand within the
    /// depth now than before.
    #[inline(always)]
    fn settle(&mut self, nodes: usize) {
        if self.depth > 0 && self.nodes.leaf_count() != nodes {
            self.compress_ends();
        }
    }

    /// Unpacks the nodes within the depth and compresses the first one behind it, at both ends.
    #[cold]
    fn compress_ends(&mut self) {
        for end in [End::Head, End::Tail] {
            let mut place = match end {
                End::Head => self.nodes.first_place(),
                End::Tail => self.nodes.last_place(),
            };
            for _ in 0..self.depth {
                let Some(here) = place else {
                    return;
                };
                if self.leaf(&here).is_compressed() {
                    self.nodes.edit(&here, Node::decompress);
                }
                place = match end {
                    End::Head => self.nodes.next_place(&here),
                    End::Tail => self.nodes.prev_place(&here),
                };
            }
            if let Some(here) = place {
                self.compress_at(&here);
            }
        }
    }

    /// The node of element `index` was changed: if it stands in the middle it is compressed again.
    #[inline(always)]
    fn compress_again(&mut self, index: usize) {
        if self.depth > 0
            && let Some((place, _)) = self.nodes.find_index(index)
        {
            self.compress_at(&place);
        }
    }

    /// The same for the nodes that a change at element `index` may have touched.
    fn compress_around(&mut self, index: usize) {
        for index in index.saturating_sub(1)..index + 3 {
            self.compress_again(index);
        }
    }

    fn compress_at(&mut self, place: &Place) {
        if self.leaf(place).is_compressed() || !self.is_inner(place) {
            return;
        }
        // Only what gains by it is written, so that a node that does not is not copied for nothing.
        if let Some(small) = self.leaf(place).compressed() {
            self.nodes.edit(place, |node| *node = small);
        }
    }

    /// True if at least `depth` nodes stand on either side of a place.
    fn is_inner(&self, place: &Place) -> bool {
        let enough = |step: fn(&Tree<Node>, &Place) -> Option<Place>| {
            let mut here = Some(*place);
            for _ in 0..self.depth {
                here = here.and_then(|place| step(&self.nodes, &place));
            }
            here.is_some()
        };
        enough(Tree::prev_place) && enough(Tree::next_place)
    }
}

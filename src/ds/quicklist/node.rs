//! A node of a quicklist.

use std::ops::{ControlFlow, Range};

use bytes::Bytes;

use super::{ENTRY_OVERHEAD, End, Item, Limits, NewElem};
use crate::base::alloc::size_class;
use crate::ds::defrag::Mover;
use crate::ds::listpack::{Elem, Listpack, Needle};
use crate::ds::tree::Leaf;

/// A node smaller than this is not compressed.
const COMPRESS_MIN: usize = 48;
/// Compression must save more than this.
const SAVE_MIN: usize = 8;

/// A run of elements. See the head of `quicklist.rs`.
#[derive(Clone, Debug)]
pub enum Node {
    Packed(Listpack),
    Whole(Box<Whole>),
    Lzf(Box<Lzf>),
}

/// One element in a buffer of its own.
#[derive(Clone, Debug)]
pub struct Whole {
    pub bytes: Bytes,
    /// It has its node by the plain threshold, and no other element may join it.
    pub plain: bool,
}

/// A compressed node.
#[derive(Clone, Debug)]
pub struct Lzf {
    pub data: Box<[u8]>,
    /// Bytes of what was compressed: a listpack, or the text of a plain element.
    pub size: usize,
    pub count: usize,
    pub plain: bool,
}

impl Node {
    /// A node of one element.
    pub(super) fn of(new: NewElem<'_>, plain_from: usize) -> Node {
        let plain = new.text.len() >= plain_from;
        match new.own {
            Some(bytes) => {
                let bytes = bytes.clone();
                Node::Whole(Box::new(Whole { bytes, plain }))
            }
            None if plain => {
                let bytes = Bytes::copy_from_slice(new.text);
                Node::Whole(Box::new(Whole { bytes, plain }))
            }
            None => Node::Packed([Elem::Str(new.text)].into_iter().collect()),
        }
    }

    /// The size that Redis's rules go by: bytes of the listpack, or of the plain text.
    pub fn size(&self) -> usize {
        match self {
            Node::Packed(lp) => lp.total_bytes(),
            Node::Whole(whole) if whole.plain => whole.bytes.len(),
            Node::Whole(whole) => Listpack::EMPTY_BYTES + Elem::Str(&whole.bytes).entry_bytes(),
            Node::Lzf(lzf) => lzf.size,
        }
    }

    /// True for a node that one element has to itself by the plain threshold.
    #[inline]
    pub fn is_plain(&self) -> bool {
        match self {
            Node::Packed(_) => false,
            Node::Whole(whole) => whole.plain,
            Node::Lzf(lzf) => lzf.plain,
        }
    }

    pub fn is_compressed(&self) -> bool {
        matches!(self, Node::Lzf(_))
    }

    /// True if an element of `text_len` bytes may be added.
    #[inline(always)]
    pub(super) fn has_room_for(&self, text_len: usize, limits: Limits, plain_from: usize) -> bool {
        if self.is_plain() || text_len >= plain_from {
            return false;
        }
        let size = self.size().saturating_add(text_len) + ENTRY_OVERHEAD;
        !limits.exceeded(size, self.len() + 1)
    }

    // ---- Reading ----

    /// Runs `f` on the node as it is unpacked.
    #[inline(always)]
    fn unpacked<R>(&self, f: impl FnOnce(&Node) -> R) -> R {
        match self {
            Node::Lzf(lzf) => f(&lzf.unpack()),
            node => f(node),
        }
    }

    /// Gives the elements from number `at` on.
    #[inline]
    pub(super) fn walk_forward(
        &self,
        at: usize,
        f: &mut impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.unpacked(|node| match node {
            Node::Packed(lp) => {
                let elems = if at == 0 {
                    Some(lp.iter())
                } else {
                    lp.seek(at as i64).map(|pos| lp.iter_from(pos))
                };
                for elem in elems.into_iter().flatten() {
                    f(Item::Elem(elem))?;
                }
                ControlFlow::Continue(())
            }
            Node::Whole(whole) => f(Item::Whole(&whole.bytes)),
            Node::Lzf(_) => unreachable!("it is unpacked"),
        })
    }

    /// Gives the elements from number `at` back to the first.
    #[inline]
    pub(super) fn walk_backward(
        &self,
        at: usize,
        f: &mut impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.unpacked(|node| match node {
            Node::Packed(lp) => {
                let Some(pos) = lp.seek(at as i64) else {
                    return ControlFlow::Continue(());
                };
                for elem in lp.iter_until(pos).rev() {
                    f(Item::Elem(elem))?;
                }
                ControlFlow::Continue(())
            }
            Node::Whole(whole) => f(Item::Whole(&whole.bytes)),
            Node::Lzf(_) => unreachable!("it is unpacked"),
        })
    }

    /// True if an element is `needle`.
    pub(super) fn holds(&self, needle: &Needle<'_>) -> bool {
        self.walk_forward(0, &mut |item| match item.is(needle) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
        .is_break()
    }

    // ---- Changing ----

    /// The listpack, to be changed; the node, which is not a plain one, becomes packed for that.
    #[inline(always)]
    pub(super) fn packed(&mut self) -> &mut Listpack {
        if !matches!(self, Node::Packed(_)) {
            self.pack();
        }
        match self {
            Node::Packed(lp) => lp,
            _ => unreachable!("it is packed now"),
        }
    }

    #[cold]
    fn pack(&mut self) {
        let node = std::mem::replace(self, Node::Packed(Listpack::new()));
        *self = Node::Packed(node.into_packed());
    }

    /// The node as a listpack.
    pub(super) fn into_packed(self) -> Listpack {
        match self {
            Node::Packed(lp) => lp,
            Node::Whole(whole) => [Elem::Str(&whole.bytes)].into_iter().collect(),
            Node::Lzf(lzf) => lzf.unpack().into_packed(),
        }
    }

    /// Adds a text at an end, if it may be added.
    #[inline]
    pub(super) fn push_if_room(
        &mut self,
        end: End,
        text: &[u8],
        limits: Limits,
        plain_from: usize,
    ) -> bool {
        let room = self.has_room_for(text.len(), limits, plain_from);
        if room {
            self.push(end, Elem::Str(text));
        }
        room
    }

    #[inline(always)]
    pub(super) fn push(&mut self, end: End, elem: Elem<'_>) {
        match end {
            End::Head => self.packed().push_front(elem),
            End::Tail => self.packed().push_back(elem),
        }
    }

    /// Takes the element at an end out, after `f` has read it.
    #[inline]
    pub(super) fn pop<R>(&mut self, end: End, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        self.decompress();
        if let Node::Whole(whole) = self {
            let result = f(Item::Whole(&whole.bytes));
            *self = Node::Packed(Listpack::new());
            return Some(result);
        }
        pop_elem(self.packed(), end, f)
    }

    /// Inserts an element as number `at`.
    pub(super) fn insert(&mut self, at: usize, elem: Elem<'_>) {
        let lp = self.packed();
        lp.insert_all(lp.seek(at as i64), &[elem]);
    }

    /// Replaces element `at`; neither the node nor the new element is plain.
    pub(super) fn replace(&mut self, at: usize, new: NewElem<'_>) {
        if self.len() == 1 && new.own.is_some() {
            *self = Node::of(new, usize::MAX);
            return;
        }
        let lp = self.packed();
        if let Some(pos) = lp.seek(at as i64) {
            lp.replace(pos, Elem::Str(new.text));
        }
    }

    /// Takes a range of elements out.
    pub(super) fn cut(&mut self, range: Range<usize>) {
        if self.is_plain() {
            *self = Node::Packed(Listpack::new());
        } else {
            self.packed().remove_range(range.start as i64, range.len());
        }
    }

    /// Takes up to `max` elements out that are `needle`, from one end on.
    pub(super) fn remove_matches(&mut self, needle: &Needle<'_>, from: End, max: usize) -> usize {
        self.decompress();
        match self {
            Node::Packed(lp) => remove_matches(lp, needle, from, max),
            node => {
                let hit = max > 0 && node.holds(needle);
                if hit {
                    *node = Node::Packed(Listpack::new());
                }
                usize::from(hit)
            }
        }
    }

    // ---- Compression ----

    /// The node compressed, if that is worth it.
    pub(super) fn compressed(&self) -> Option<Node> {
        let raw = match self {
            Node::Packed(lp) => lp.bytes(),
            Node::Whole(whole) if whole.plain => &whole.bytes,
            Node::Whole(_) => return self.clone().packed_copy().compressed(),
            Node::Lzf(_) => return None,
        };
        if raw.len() < COMPRESS_MIN {
            return None;
        }
        let data = lzf::compress(raw).ok()?;
        if data.len() + SAVE_MIN >= raw.len() {
            return None;
        }
        Some(Node::Lzf(Box::new(Lzf {
            data: data.into(),
            size: raw.len(),
            count: self.len(),
            plain: self.is_plain(),
        })))
    }

    fn packed_copy(self) -> Node {
        Node::Packed(self.into_packed())
    }

    pub(super) fn decompress(&mut self) {
        if let Node::Lzf(lzf) = self {
            *self = lzf.unpack();
        }
    }
}

/// Takes up to `max` elements out of a listpack that are `needle`, from one end on. Gives how many they were.
pub fn remove_matches(lp: &mut Listpack, needle: &Needle<'_>, from: End, max: usize) -> usize {
    let mut removed = 0;
    let mut pos = match from {
        End::Head => lp.first(),
        End::Tail => lp.last(),
    };
    while let Some(here) = pos.filter(|_| removed < max) {
        if !lp.get(here).is_some_and(|elem| needle.is(elem)) {
            pos = match from {
                End::Head => lp.next(here),
                End::Tail => lp.prev(here),
            };
            continue;
        }
        removed += 1;
        pos = match from {
            End::Head => lp.remove(here),
            End::Tail => {
                let before = lp.prev(here);
                lp.remove(here);
                before
            }
        };
    }
    removed
}

impl Lzf {
    /// The node before it was compressed.
    fn unpack(&self) -> Node {
        // Made by `compressed`, or checked when it was loaded.
        let raw = lzf::decompress(&self.data, self.size).expect("our own compression");
        if self.plain {
            let (bytes, plain) = (Bytes::from(raw), true);
            return Node::Whole(Box::new(Whole { bytes, plain }));
        }
        Node::Packed(Listpack::from_bytes(&raw, false).expect("our own compression"))
    }
}

/// Takes the element at an end of a listpack out, after `f` has read it.
#[inline]
pub fn pop_elem<R>(lp: &mut Listpack, end: End, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
    if end == End::Tail {
        return lp.pop_back(|elem| f(Item::Elem(elem)));
    }
    let pos = lp.first()?;
    let result = f(Item::Elem(lp.get(pos)?));
    lp.remove(pos);
    Some(result)
}

impl Leaf for Node {
    type Key = ();

    fn first_key(&self) {}

    #[inline]
    fn len(&self) -> usize {
        match self {
            Node::Packed(lp) => lp.len(),
            Node::Whole(_) => 1,
            Node::Lzf(lzf) => lzf.count,
        }
    }

    #[inline]
    fn heap_bytes(&self) -> usize {
        let own = size_class(size_of::<u32>() + size_of::<Node>(), 8);
        own + match self {
            Node::Packed(lp) => lp.memory_bytes(),
            Node::Whole(whole) => size_of::<Whole>() + size_class(whole.bytes.len(), 1),
            Node::Lzf(lzf) => size_of::<Lzf>() + size_class(lzf.data.len(), 1),
        }
    }

    fn defrag(&mut self, mover: &mut Mover<'_>) {
        match self {
            Node::Packed(lp) => lp.defrag(mover),
            Node::Whole(whole) => {
                mover.boxed(whole);
                mover.bytes(&mut whole.bytes);
            }
            Node::Lzf(lzf) => {
                mover.boxed(lzf);
                mover.slice(&mut lzf.data);
            }
        }
    }
}

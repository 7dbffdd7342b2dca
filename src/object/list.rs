//! The face of a list value.
//!
//! A short list is one listpack (encoding `listpack`), a longer one a [`Quicklist`] (encoding `quicklist`). It becomes
//! the latter when `list-max-listpack-size` would be exceeded, and goes back when it has shrunk to one node of half that
//! size; commands call [`List::grow_for`] before they add and [`List::shrunk`] after they take away, where Redis does
//! that, so that OBJECT ENCODING shows the same. The directives of the time are handed in as [`ListRules`].

use std::ops::{ControlFlow, Range};

use super::value::{Container, Encoding, Heap, ValueRef};
use crate::base::alloc::size_class;
use crate::ds::cow::Shared;
use crate::ds::defrag::{Mover, Step};
use crate::ds::listpack::{Elem, Listpack, Needle};
pub use crate::ds::quicklist::{End, Item, NewElem};
use crate::ds::quicklist::{Limits, Quicklist, pop_elem};

/// What the configuration says of lists.
#[derive(Clone, Copy, Debug)]
pub struct ListRules {
    /// `list-max-listpack-size`.
    pub fill: i32,
    /// `list-compress-depth`.
    pub depth: u32,
    /// Elements from this length on have a node of their own.
    pub plain_from: usize,
}

/// See the head of the file.
#[derive(Debug)]
pub struct List {
    body: Body,
    /// What copies have left to other owners, but for what the quicklist tallies itself.
    left_behind: usize,
}

#[derive(Debug)]
enum Body {
    Small(Listpack),
    Quick(Box<Quicklist>),
}

impl List {
    /// An empty list.
    pub fn new() -> List {
        List {
            body: Body::Small(Listpack::new()),
            left_behind: 0,
        }
    }

    /// A list of these elements, one listpack if they fit. If not, its nodes are of Redis's built-in size and not
    /// compressed: SORT, who wants this, does not ask for what is configured.
    pub fn of<'a>(elems: impl IntoIterator<Item = NewElem<'a>>, rules: &ListRules) -> List {
        const BUILT_IN_FILL: i32 = -2;
        let mut list = Quicklist::from_listpack(Listpack::new(), BUILT_IN_FILL, 0);
        for elem in elems {
            list.push(End::Tail, elem, rules.plain_from);
        }
        List::from_quicklist(list).packed(rules)
    }

    /// A quicklist as it is, from a file.
    pub fn from_quicklist(list: Quicklist) -> List {
        List {
            body: Body::Quick(Box::new(list)),
            left_behind: 0,
        }
    }

    /// The same as one listpack, if its elements fit.
    pub fn packed(self, rules: &ListRules) -> List {
        let small = self.quicklist().and_then(|list| {
            let (limits, count) = (Limits::new(rules.fill), list.len());
            list.to_listpack(|size| !limits.exceeded(size, count))
        });
        match small {
            Some(list) => List {
                body: Body::Small(list),
                left_behind: 0,
            },
            None => self,
        }
    }

    /// The number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Small(lp) => lp.len(),
            Body::Quick(list) => list.len(),
        }
    }

    /// True if there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        match &self.body {
            Body::Small(lp) => lp.is_empty(),
            Body::Quick(list) => list.is_empty(),
        }
    }

    /// The quicklist behind it, if it is one: for DEBUG OBJECT and RDB files.
    pub fn quicklist(&self) -> Option<&Quicklist> {
        match &self.body {
            Body::Small(_) => None,
            Body::Quick(list) => Some(list),
        }
    }

    /// The listpack behind it, if it is one.
    pub fn listpack(&self) -> Option<&Listpack> {
        match &self.body {
            Body::Small(lp) => Some(lp),
            Body::Quick(_) => None,
        }
    }

    // ---- Reading ----

    /// Reads the elements from number `from` on, towards `towards`, until `f` breaks off.
    #[inline]
    pub fn walk(&self, from: usize, towards: End, mut f: impl FnMut(Item<'_>) -> ControlFlow<()>) {
        let lp = match &self.body {
            Body::Small(lp) => lp,
            Body::Quick(list) => return list.walk(from, towards, f),
        };
        let Some(pos) = lp.seek(from as i64) else {
            return;
        };
        match towards {
            End::Tail => drop(lp.iter_from(pos).try_for_each(|elem| f(Item::Elem(elem)))),
            End::Head => drop(
                lp.iter_until(pos)
                    .rev()
                    .try_for_each(|elem| f(Item::Elem(elem))),
            ),
        }
    }

    /// Reads `count` elements from number `from` on, towards `towards`.
    #[inline]
    pub fn read(&self, from: usize, towards: End, count: usize, mut f: impl FnMut(Item<'_>)) {
        let mut left = count;
        if left == 0 {
            return;
        }
        self.walk(from, towards, |item| {
            f(item);
            left -= 1;
            match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
    }

    /// The index of the first element that is `needle`.
    pub fn find(&self, needle: &Needle<'_>) -> Option<usize> {
        let (mut index, mut found) = (0, None);
        self.walk(0, End::Tail, |item| {
            if item.is(needle) {
                found = Some(index);
                return ControlFlow::Break(());
            }
            index += 1;
            ControlFlow::Continue(())
        });
        found
    }

    // ---- Encodings ----

    /// To be called before elements of these lengths are added, or replace others.
    #[inline]
    pub fn grow_for<T>(&mut self, lens: T, rules: &ListRules)
    where
        T: IntoIterator<Item = usize, IntoIter: ExactSizeIterator>,
    {
        let Body::Small(lp) = &mut self.body else {
            return;
        };
        let lens = lens.into_iter();
        let (count, bytes): (usize, usize) = (lens.len(), lens.sum());
        let size = lp.total_bytes().saturating_add(bytes);
        if Limits::new(rules.fill).exceeded(size, lp.len() + count) {
            let lp = std::mem::take(lp);
            let list = Quicklist::from_listpack(lp, rules.fill, rules.depth);
            self.body = Body::Quick(Box::new(list));
        }
    }

    /// To be called after elements were taken away or replaced.
    #[inline]
    pub fn shrunk(&mut self, rules: &ListRules) {
        if let Body::Quick(list) = &self.body
            && list.node_count() == 1
        {
            self.pack_up(rules);
        }
    }

    /// Makes a list of one node a listpack if it is short enough.
    fn pack_up(&mut self, rules: &ListRules) {
        let Body::Quick(list) = &mut self.body else {
            return;
        };
        let limits = Limits::new(rules.fill);
        let count = list.len();
        if let Some(lp) = list.to_listpack(|size| limits.half_kept(size, count)) {
            self.left_behind += list.take_left_behind();
            self.body = Body::Small(lp);
        }
    }

    // ---- Changing ----

    /// Adds an element at an end.
    #[inline]
    pub fn push(&mut self, end: End, new: NewElem<'_>, rules: &ListRules) {
        match &mut self.body {
            Body::Small(lp) => match end {
                End::Head => lp.push_front(Elem::Str(new.text)),
                End::Tail => lp.push_back(Elem::Str(new.text)),
            },
            Body::Quick(list) => list.push(end, new, rules.plain_from),
        }
    }

    /// Takes the element at an end out, after `f` has read it.
    #[inline]
    pub fn pop<R>(&mut self, end: End, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let lp = match &mut self.body {
            Body::Small(lp) => lp,
            Body::Quick(list) => return list.pop(end, f),
        };
        pop_elem(lp, end, f)
    }

    /// Puts an element before or behind element `index`, which is there.
    pub fn insert(&mut self, index: usize, before: bool, new: NewElem<'_>, rules: &ListRules) {
        match &mut self.body {
            Body::Small(lp) => {
                if let Some(pos) = lp.seek(index as i64) {
                    let elem = Elem::Str(new.text);
                    match before {
                        true => lp.insert_before(pos, elem),
                        false => lp.insert_after(pos, elem),
                    }
                }
            }
            Body::Quick(list) => list.insert(index, before, new, rules.plain_from),
        }
    }

    /// Puts another element in the place of element `index`, which is there.
    pub fn replace(&mut self, index: usize, new: NewElem<'_>, rules: &ListRules) {
        match &mut self.body {
            Body::Small(lp) => {
                if let Some(pos) = lp.seek(index as i64) {
                    lp.replace(pos, Elem::Str(new.text));
                }
            }
            Body::Quick(list) => list.replace(index, new, rules.plain_from),
        }
    }

    /// Takes a range of elements out; what they filled wholly comes as a list, to be dropped where there is time for it.
    #[must_use = "dropping many nodes takes its time"]
    pub fn remove_range(&mut self, range: Range<usize>) -> Option<List> {
        match &mut self.body {
            Body::Small(lp) => {
                lp.remove_range(range.start as i64, range.len());
                None
            }
            Body::Quick(list) => {
                let removed = list.remove_range(range);
                (!removed.is_empty()).then(|| List {
                    body: Body::Quick(Box::new(removed)),
                    left_behind: 0,
                })
            }
        }
    }

    /// Takes out up to `max` elements that are `needle`, from one end on. Gives how many they were.
    pub fn remove_matches(&mut self, needle: &Needle<'_>, from: End, max: usize) -> usize {
        match &mut self.body {
            Body::Small(lp) => crate::ds::quicklist::remove_matches(lp, needle, from, max),
            Body::Quick(list) => list.remove_matches(needle, from, max),
        }
    }
}

impl Default for List {
    fn default() -> List {
        List::new()
    }
}

impl Clone for List {
    /// A clone is made by a writer who leaves the original to others: it tallies what it leaves.
    fn clone(&self) -> List {
        match &self.body {
            Body::Small(lp) => List {
                body: Body::Small(lp.clone()),
                left_behind: lp.memory_bytes(),
            },
            Body::Quick(list) => List {
                body: Body::Quick(list.clone()),
                left_behind: size_of::<Quicklist>(),
            },
        }
    }
}

impl Container for List {
    type Ref<'a> = &'a List;

    fn into_heap(self) -> Heap {
        Heap::List(Shared::new(self))
    }

    fn of(value: ValueRef<'_>) -> Option<&Self> {
        match value {
            ValueRef::List(it) => Some(it),
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        List::is_empty(self)
    }

    fn encoding(&self) -> Encoding {
        match &self.body {
            Body::Small(_) => Encoding::Listpack,
            Body::Quick(_) => Encoding::Quicklist,
        }
    }

    fn free_effort(&self) -> usize {
        match &self.body {
            Body::Small(_) => 1,
            Body::Quick(list) => list.node_count(),
        }
    }

    fn memory_bytes(&self) -> usize {
        size_class(size_of::<u32>() + size_of::<List>(), 8)
            + match &self.body {
                Body::Small(lp) => lp.memory_bytes(),
                Body::Quick(list) => size_of::<Quicklist>() + list.memory_bytes(),
            }
    }

    fn freed_by_drop(&self) -> usize {
        match &self.body {
            Body::Small(_) => self.memory_bytes(),
            Body::Quick(list) => self.memory_bytes() - list.memory_bytes() + list.freed_by_drop(),
        }
    }

    fn defrag(&mut self, step: Step, mover: &mut Mover<'_>) -> Option<Step> {
        match &mut self.body {
            Body::Small(pack) => {
                pack.defrag(mover);
                None
            }
            Body::Quick(nodes) => {
                if step == Step::default() {
                    mover.boxed(nodes);
                }
                nodes.defrag(step, mover)
            }
        }
    }

    fn take_left_behind(&mut self) -> usize {
        let own = std::mem::take(&mut self.left_behind);
        match &mut self.body {
            Body::Small(_) => own,
            Body::Quick(list) => own + list.take_left_behind(),
        }
    }
}

//! The ends of a list, where queues are pushed and popped.
//!
//! A change of a leaf goes down the tree and up again, to make the way to the leaf its owner's own and to bring the sums
//! along it in line. A queue would do that for each element at the same two leaves. So the node that a push begins stays
//! *apart* from the tree, before it or behind it, until it is full; and so does the node that pops have come to, until
//! nothing is left in it. The tree hears of a node only when it comes or goes, and an element costs a look at its node.
//!
//! ```text
//! head: | x | y |     tree: ... | d | e | f | ...     tail: | z |
//! ```
//!
//! Whatever is not about an end goes by places in the tree, and has the nodes apart put back first: that neither copies nor
//! changes a node. From then on the ends are changed in the tree, until the next node begins or ends; so a list that is
//! changed in both ways by turns pays for that once a node. A list that compresses its nodes keeps none apart.

use super::{End, Item, Leaf, Limits, NewElem, Node, Quicklist};
use crate::ds::cow::Shared;
use crate::ds::listpack::Listpack;

/// From this number of nodes on, a new one at the head is made as large as it may become.
const ROOM_FROM: usize = 8;

impl Quicklist {
    /// Adds an element at an end.
    #[inline]
    pub fn push(&mut self, end: End, new: NewElem<'_>, plain_from: usize) {
        let limits = self.limits;
        let pushed = match self.node_apart(end) {
            Some(node) => {
                let pushed = node.push_if_room(end, new.text, limits, plain_from);
                self.apart += usize::from(pushed);
                pushed
            }
            None => self.push_in_tree(end, new.text, plain_from),
        };
        if !pushed {
            self.push_node(end, Node::of(new, plain_from));
        }
    }

    #[inline(never)]
    fn push_in_tree(&mut self, end: End, text: &[u8], plain_from: usize) -> bool {
        let limits = self.limits;
        let push = |node: &mut Node| node.push_if_room(end, text, limits, plain_from);
        self.nodes.edit_end(end == End::Head, push) == Some(true)
    }

    /// A new node at an end: apart, if it may be, and what stood apart there goes into the tree.
    #[cold]
    fn push_node(&mut self, end: End, mut node: Node) {
        let nodes = self.node_count();
        // More will come, and it costs nothing to have the room for it.
        if let (End::Head, Node::Packed(lp), Limits::Bytes(max), ROOM_FROM..) =
            (end, &mut node, self.limits, nodes)
        {
            let mut roomy = Listpack::with_gap(max);
            lp.iter().for_each(|elem| roomy.push_front(elem));
            *lp = roomy;
        }
        let node = Shared::new(node);
        if self.depth > 0 {
            self.nodes.put_end(end == End::Head, node);
            self.settle(nodes);
            return;
        }
        self.apart += node.len();
        if let Some(full) = self.place_apart(end).replace(node) {
            self.apart -= full.len();
            self.nodes.put_end(end == End::Head, full);
        }
    }

    /// Takes the element at an end out, after `f` has read it. `None` if there is none.
    #[inline]
    pub fn pop<R>(&mut self, end: End, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let Some(node) = self.node_apart(end) else {
            return self.pop_in_tree(end, f);
        };
        let result = node.pop(end, f);
        let is_empty = node.is_empty();
        self.apart -= usize::from(result.is_some());
        if is_empty {
            self.next_apart(end);
        }
        result
    }

    #[inline(never)]
    fn pop_in_tree<R>(&mut self, end: End, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let nodes = self.nodes.leaf_count();
        let pop = |node: &mut Node| node.pop(end, f);
        let result = self.nodes.edit_end(end == End::Head, pop)?;
        if self.depth > 0 {
            self.settle(nodes);
        } else if self.nodes.leaf_count() != nodes {
            self.next_apart(end);
        }
        result
    }

    /// A node at an end is used up: the next one takes its place, apart.
    #[cold]
    fn next_apart(&mut self, end: End) {
        let next = self.nodes.take_end(end == End::Head);
        self.apart += next.as_ref().map_or(0, |node| node.len());
        *self.place_apart(end) = next;
    }

    /// Puts the nodes that stand apart back into the tree.
    pub(super) fn gather(&mut self) {
        for end in [End::Head, End::Tail] {
            if let Some(node) = self.place_apart(end).take() {
                self.nodes.put_end(end == End::Head, node);
            }
        }
        self.apart = 0;
    }

    fn place_apart(&mut self, end: End) -> &mut Option<Shared<Node>> {
        match end {
            End::Head => &mut self.head,
            End::Tail => &mut self.tail,
        }
    }

    /// The node at an end, to be changed, if it stands apart; copied first if others own it too.
    #[inline(always)]
    fn node_apart(&mut self, end: End) -> Option<&mut Node> {
        let (here, there) = match end {
            End::Head => (&mut self.head, &mut self.tail),
            End::Tail => (&mut self.tail, &mut self.head),
        };
        if here.is_none() && self.nodes.is_empty() {
            // The only node is at either end.
            *here = there.take();
        }
        let node = here.as_mut()?;
        if !Shared::is_unique(node) {
            self.nodes.leave_behind(node.heap_bytes());
        }
        Some(Shared::make_mut(node))
    }
}

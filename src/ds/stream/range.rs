//! The entries between two IDs, in either direction; deleted ones are passed over.

use super::id::StreamId;
use super::node::{Entries, Entry, Node};
use crate::ds::cow::Shared;
use crate::ds::tree::{Cursor, Tree};

type NodeCursor<'a> = Cursor<'a, Node, Shared<Node>>;

fn cursor_at(nodes: &Tree<Node>, id: StreamId) -> Option<NodeCursor<'_>> {
    nodes.cursor(&nodes.find_key(|first| *first <= id)?)
}

/// From the first to the last.
pub struct Range<'a> {
    cursor: Option<NodeCursor<'a>>,
    entries: Option<Entries<'a>>,
    start: StreamId,
    end: StreamId,
}

impl<'a> Range<'a> {
    pub(super) fn new(nodes: &'a Tree<Node>, start: StreamId, end: StreamId) -> Self {
        let cursor = cursor_at(nodes, start);
        Range {
            entries: cursor.as_ref().map(|c| c.leaf().entries()),
            cursor,
            start,
            end,
        }
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let entries = self.entries.as_mut()?;
            let (start, end) = (self.start, self.end);
            match entries.find(|entry| entry.id >= start && !entry.deleted()) {
                Some(entry) if entry.id <= end => return Some(entry),
                Some(_) => self.entries = None,
                None => {
                    let next = self.cursor.as_mut().and_then(|c| c.forward());
                    self.entries = next.filter(|n| n.first_id() <= end).map(Node::entries);
                }
            }
        }
    }
}

/// From the last to the first. A node can only be read from the front, so its entries are noted first.
pub struct RevRange<'a> {
    cursor: Option<NodeCursor<'a>>,
    /// Those of the node that are yet to come, the next one last.
    noted: Vec<Entry<'a>>,
    start: StreamId,
}

impl<'a> RevRange<'a> {
    pub(super) fn new(nodes: &'a Tree<Node>, start: StreamId, end: StreamId) -> Self {
        let mut range = RevRange {
            cursor: cursor_at(nodes, end),
            noted: Vec::new(),
            start,
        };
        if let Some(node) = range.cursor.as_ref().map(|c| c.leaf()) {
            range.note(node, end);
        }
        range
    }

    fn note(&mut self, node: &'a Node, end: StreamId) {
        let start = self.start;
        let entries = node.entries().take_while(|entry| entry.id <= end);
        self.noted
            .extend(entries.filter(|entry| entry.id >= start && !entry.deleted()));
    }
}

impl<'a> Iterator for RevRange<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(entry) = self.noted.pop() {
                return Some(entry);
            }
            let cursor = self.cursor.as_mut()?;
            match cursor.backward() {
                Some(node) if node.last_id() >= self.start => self.note(node, StreamId::MAX),
                _ => self.cursor = None,
            }
        }
    }
}

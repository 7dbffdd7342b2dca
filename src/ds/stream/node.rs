//! A macro node: a run of entries in one allocation.
//!
//! Most entries of a stream have the same fields. The fields of a node's first entry are its *master fields*, written
//! once at its head; an entry with just these fields only holds values:
//!
//! ```text
//! | master fields | entry | entry | ...
//!
//! entry = | flags, step | values |                                      SAME_FIELDS
//!         | flags, step | varint: fields | field value, field value ... |
//! ```
//!
//! (See [`super::code`] for the parts.) The ID of an entry is a step from the one before, so a node is read from the
//! front, at most a node's worth of entries; whoever goes backwards notes where they begin first. An entry is deleted
//! by a flag, and a node goes when its last entry is deleted.
//!
//! Redis writes a node as a listpack, with back lengths, counts and IDs relative to the node's. Ours takes about an
//! eighth less. But where one node ends and the next begins is Redis's decision to the byte, because trimming by `~`
//! drops whole nodes and clients see what is left: so a node keeps book of the size that its listpack would have, and
//! [`Node::to_listpack`] and [`Node::from_listpack`] go from one form to the other, for RDB files.

use super::code::{elem, put_elem, put_step, put_varint, skip_elems, step, varint};
use super::id::StreamId;
use crate::base::alloc::size_class;
use crate::ds::defrag::Mover;
use crate::ds::listpack::{Corrupt, Elem, Listpack};

/// The entry is deleted.
const DELETED: u8 = 1;
/// The entry has the master fields and holds values alone.
const SAME_FIELDS: u8 = 2;
/// Bytes of a listpack without elements.
const LISTPACK_EMPTY: usize = 7;
/// No node grows beyond this, whatever the configuration says; nor may an entry be larger.
pub const NODE_BYTES_MAX: usize = 1 << 30;

/// When a node is full: `stream-node-max-bytes` and `stream-node-max-entries`; 0: no limit.
#[derive(Clone, Copy, Debug)]
pub struct NodeLimits {
    pub max_bytes: usize,
    pub max_entries: usize,
}

/// See the head of the file.
#[derive(Clone, Debug)]
pub struct Node {
    /// The node's own ID, which is that of its first entry.
    first: StreamId,
    /// The ID of its last entry, deleted or not.
    last: StreamId,
    /// What master fields and entries take in Redis's listpack; the two counts are added when asked.
    listpack_body: usize,
    /// Entries that are not deleted.
    live: u32,
    deleted: u32,
    /// Number of the master fields, and where the entries begin.
    fields: u32,
    entries_at: u32,
    data: Vec<u8>,
}

/// What an integer takes in a listpack.
#[inline]
fn int_bytes(v: i64) -> usize {
    match v {
        0..=127 => 2,
        _ => Elem::Int(v).entry_bytes(),
    }
}

impl Node {
    /// A node with its first entry: fields and values in turn.
    pub fn new(id: StreamId, pairs: &[&[u8]]) -> Node {
        let fields = pairs.iter().step_by(2).map(|f| Elem::from(*f));
        let mut node = Node::with_fields(id, fields);
        node.append(id, pairs);
        node
    }

    /// A node with master fields and no entry.
    fn with_fields<'a>(id: StreamId, fields: impl Iterator<Item = Elem<'a>>) -> Node {
        let mut node = Node {
            first: id,
            // One before, so that the first step is to the node's own ID.
            last: StreamId::new(id.ms, id.seq.wrapping_sub(1)),
            listpack_body: int_bytes(0),
            live: 0,
            deleted: 0,
            fields: 0,
            entries_at: 0,
            data: Vec::new(),
        };
        for field in fields {
            node.listpack_body += field.entry_bytes();
            node.fields += 1;
            put_elem(&mut node.data, field);
        }
        node.listpack_body += int_bytes(i64::from(node.fields));
        node.entries_at = node.data.len() as u32;
        node
    }

    /// Shows its data to a mover.
    pub fn defrag(&mut self, mover: &mut Mover<'_>) {
        mover.vec(&mut self.data);
    }

    /// The node's own ID.
    pub fn first_id(&self) -> StreamId {
        self.first
    }

    /// The ID of the last entry, deleted or not.
    pub fn last_id(&self) -> StreamId {
        self.last
    }

    /// How many entries are not deleted.
    pub fn live(&self) -> usize {
        self.live as usize
    }

    /// How many entries there are, deleted ones included.
    pub fn entry_count(&self) -> usize {
        self.live as usize + self.deleted as usize
    }

    /// Bytes of the listpack that Redis would have here.
    pub fn listpack_bytes(&self) -> usize {
        let counts = int_bytes(i64::from(self.live)) + int_bytes(i64::from(self.deleted));
        LISTPACK_EMPTY + counts + self.listpack_body
    }

    /// Bytes of memory behind the node.
    pub fn heap_bytes(&self) -> usize {
        match self.data.capacity() {
            0 => 0,
            n => size_class(n, 1),
        }
    }

    /// True if an entry whose texts add up to `bytes` still belongs here.
    pub fn has_room(&self, bytes: usize, limits: NodeLimits) -> bool {
        let max_bytes = match limits.max_bytes {
            0 => NODE_BYTES_MAX,
            n => n.min(NODE_BYTES_MAX),
        };
        self.listpack_bytes() + bytes < max_bytes
            && (limits.max_entries == 0 || self.entry_count() < limits.max_entries)
    }

    /// Nothing will be added any more: memory to spare goes.
    pub fn seal(&mut self) {
        if size_class(self.data.len(), 1) < self.heap_bytes() {
            self.data.shrink_to_fit();
        }
    }

    /// Adds an entry (fields and values in turn) at the end; its ID is larger than all here.
    pub fn append(&mut self, id: StreamId, pairs: &[&[u8]]) {
        let same = self.has_fields(pairs);
        let skip = usize::from(same);
        let elems = pairs.iter().skip(skip).step_by(1 + skip);
        self.append_elems(id, same, pairs.len() / 2, elems.map(|e| Elem::from(*e)), 0);
    }

    fn append_elems<'a>(
        &mut self,
        id: StreamId,
        same: bool,
        fields: usize,
        elems: impl Iterator<Item = Elem<'a>>,
        deleted: u8,
    ) {
        let flags = deleted | if same { SAME_FIELDS } else { 0 };
        put_step(&mut self.data, flags, self.last, id);
        // Redis stores IDs as differences to the node's, each half for itself.
        let mut body = int_bytes(i64::from(flags))
            + int_bytes(id.ms.wrapping_sub(self.first.ms) as i64)
            + int_bytes(id.seq.wrapping_sub(self.first.seq) as i64);
        if !same {
            put_varint(&mut self.data, fields as u64);
            body += int_bytes(fields as i64);
        }
        for elem in elems {
            body += elem.entry_bytes();
            put_elem(&mut self.data, elem);
        }
        self.listpack_body += body + int_bytes(listpack_count(same, fields));
        self.last = id;
        match deleted {
            0 => self.live += 1,
            _ => self.deleted += 1,
        }
    }

    /// True if these are the master fields.
    fn has_fields(&self, pairs: &[&[u8]]) -> bool {
        if pairs.len() / 2 != self.fields as usize {
            return false;
        }
        let mut at = 0;
        let mut fields = pairs.iter().step_by(2);
        fields.all(|field| match elem(&self.data, &mut at) {
            Elem::Str(text) => text == *field,
            int => int == Elem::from(*field),
        })
    }

    /// The entries in order, deleted ones included.
    pub fn entries(&self) -> Entries<'_> {
        Entries {
            node: self,
            before: StreamId::new(self.first.ms, self.first.seq.wrapping_sub(1)),
            at: self.entries_at as usize,
            skip: 0,
        }
    }

    /// The entry with that ID, if it is here and not deleted.
    pub fn find(&self, id: StreamId) -> Option<Entry<'_>> {
        if id > self.last {
            return None;
        }
        let mut entries = self.entries();
        let found = entries.find(|e| e.id >= id)?;
        (found.id == id && !found.deleted()).then_some(found)
    }

    /// The first entry that is not deleted.
    pub fn first_live(&self) -> Option<Entry<'_>> {
        self.entries().find(|e| !e.deleted())
    }

    /// The ID of the last entry that is not deleted.
    pub fn last_live_id(&self) -> Option<StreamId> {
        if self.deleted == 0 {
            return Some(self.last);
        }
        let live = self.entries().filter(|e| !e.deleted());
        live.last().map(|e| e.id)
    }

    /// Flags an entry as deleted; `at` is its place.
    pub fn delete_at(&mut self, at: Place) {
        let first = &mut self.data[at.0 as usize];
        debug_assert!(*first & DELETED == 0, "deleted twice");
        *first |= DELETED;
        self.live -= 1;
        self.deleted += 1;
    }

    /// Deletes entries from the front: at most `max`, and only those before an ID, if one is given. How many it were.
    pub fn delete_front(&mut self, max: usize, before: Option<StreamId>) -> usize {
        let entries = self.entries();
        let places: Vec<Place> = entries
            .take_while(|entry| before.is_none_or(|before| entry.id < before))
            .filter(|entry| !entry.deleted())
            .take(max)
            .map(|entry| entry.place())
            .collect();
        for place in &places {
            self.delete_at(*place);
        }
        places.len()
    }

    // --- Redis's form ------------------------------------------------------------------------------------------

    /// The node as Redis has it in memory and in RDB files:
    ///
    /// ```text
    /// | entries | deleted | fields | field ... | 0 |   then for each entry
    /// | flags | ms - ms of the node | number - number of the node | values ... | elements of this entry |
    ///   (or | ... | fields | field value ... | elements |, without SAME_FIELDS)
    /// ```
    pub fn to_listpack(&self) -> Listpack {
        let mut out = Vec::with_capacity(8 + self.entry_count() * 8);
        out.extend([self.live, self.deleted, self.fields].map(|n| Elem::Int(i64::from(n))));
        let mut at = 0;
        out.extend((0..self.fields).map(|_| elem(&self.data, &mut at)));
        out.push(Elem::Int(0));
        for entry in self.entries() {
            let same = entry.flags & SAME_FIELDS != 0;
            let (ms, seq) = (entry.id.ms, entry.id.seq);
            out.push(Elem::Int(i64::from(entry.flags)));
            out.push(Elem::Int(ms.wrapping_sub(self.first.ms) as i64));
            out.push(Elem::Int(seq.wrapping_sub(self.first.seq) as i64));
            if !same {
                out.push(Elem::Int(entry.fields as i64));
            }
            for (field, value) in entry.pairs() {
                if !same {
                    out.push(field);
                }
                out.push(value);
            }
            out.push(Elem::Int(listpack_count(same, entry.fields)));
        }
        out.into_iter().collect()
    }

    /// A node from Redis's form, which may come from anywhere: whatever does not fit in every count, or whose IDs do
    /// not grow, is refused. `first` is the node's own ID, which stands outside.
    pub fn from_listpack(first: StreamId, listpack: &[u8]) -> Result<Node, Corrupt> {
        let listpack = Listpack::from_bytes(listpack, true)?;
        let mut read = Reader(listpack.iter());
        let (live, deleted) = (read.count()?, read.count()?);
        let fields = read.elems()?;
        let mut node = Node::with_fields(first, fields.into_iter());
        if read.int()? != 0 {
            return Err(Corrupt);
        }
        let total = live.checked_add(deleted).ok_or(Corrupt)?;
        for _ in 0..total {
            node.read_entry(&mut read)?;
        }
        let exact = read.0.next().is_none();
        if !exact || node.live != live || node.deleted != deleted {
            return Err(Corrupt);
        }
        node.seal();
        Ok(node)
    }

    fn read_entry(&mut self, read: &mut Reader<'_>) -> Result<(), Corrupt> {
        let flags = u8::try_from(read.int()?).map_err(|_| Corrupt)?;
        if flags & !(DELETED | SAME_FIELDS) != 0 {
            return Err(Corrupt);
        }
        let ms = self.first.ms.wrapping_add(read.int()? as u64);
        let id = StreamId::new(ms, self.first.seq.wrapping_add(read.int()? as u64));
        let grows = match self.entry_count() {
            0 => id >= self.first,
            _ => id > self.last,
        };
        if !grows {
            return Err(Corrupt);
        }
        let same = flags & SAME_FIELDS != 0;
        let (fields, elems) = match same {
            true => (self.fields as usize, read.take(self.fields as usize)?),
            false => {
                let fields = read.count()? as usize;
                (fields, read.take(fields.checked_mul(2).ok_or(Corrupt)?)?)
            }
        };
        if read.int()? != listpack_count(same, fields) {
            return Err(Corrupt);
        }
        self.append_elems(id, same, fields, elems.into_iter(), flags & DELETED);
        Ok(())
    }
}

/// The number of elements that an entry has in Redis's form, as it stands at its end.
#[inline]
fn listpack_count(same: bool, fields: usize) -> i64 {
    match same {
        true => fields as i64 + 3,
        false => 2 * fields as i64 + 4,
    }
}

/// Elements of a listpack from outside, asked for one by one.
struct Reader<'a>(crate::ds::listpack::Iter<'a>);

impl<'a> Reader<'a> {
    fn int(&mut self) -> Result<i64, Corrupt> {
        self.0.next().and_then(Elem::as_int).ok_or(Corrupt)
    }

    fn count(&mut self) -> Result<u32, Corrupt> {
        u32::try_from(self.int()?).map_err(|_| Corrupt)
    }

    /// So many elements; memory is taken as they turn up, not as they are promised.
    fn take(&mut self, n: usize) -> Result<Vec<Elem<'a>>, Corrupt> {
        let elems: Vec<_> = self.0.by_ref().take(n).collect();
        match elems.len() == n {
            true => Ok(elems),
            false => Err(Corrupt),
        }
    }

    /// A count, and so many elements.
    fn elems(&mut self) -> Result<Vec<Elem<'a>>, Corrupt> {
        let n = self.count()?;
        self.take(n as usize)
    }
}

/// Where an entry lies in its node; deleting entries does not move it.
#[derive(Clone, Copy, Debug)]
pub struct Place(u32);

/// An entry being read.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    pub id: StreamId,
    /// How many fields it has.
    pub fields: usize,
    flags: u8,
    /// Where the entry begins, and where its fields or values do.
    at: usize,
    body: usize,
    node: &'a Node,
}

impl<'a> Entry<'a> {
    /// True if only its place is left.
    pub fn deleted(&self) -> bool {
        self.flags & DELETED != 0
    }

    /// Where it lies.
    pub fn place(&self) -> Place {
        Place(self.at as u32)
    }

    /// How many elements its body has.
    fn elems(&self) -> usize {
        match self.flags & SAME_FIELDS {
            0 => 2 * self.fields,
            _ => self.fields,
        }
    }

    /// Its fields and values.
    pub fn pairs(&self) -> Pairs<'a> {
        Pairs {
            data: &self.node.data,
            left: self.fields,
            field_at: (self.flags & SAME_FIELDS != 0).then_some(0),
            at: self.body,
        }
    }
}

/// The fields and values of an entry.
pub struct Pairs<'a> {
    data: &'a [u8],
    left: usize,
    /// Where the next master field is, if the entry has those.
    field_at: Option<usize>,
    at: usize,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Elem<'a>, Elem<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let field = match &mut self.field_at {
            Some(at) => elem(self.data, at),
            None => elem(self.data, &mut self.at),
        };
        Some((field, elem(self.data, &mut self.at)))
    }
}

/// The entries of a node in order, deleted ones included.
#[derive(Clone)]
pub struct Entries<'a> {
    node: &'a Node,
    /// ID of the entry given last.
    before: StreamId,
    /// The body of the entry given last, and how many elements of it lie before the next entry.
    at: usize,
    skip: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        let node = self.node;
        let data = &node.data[..];
        skip_elems(data, &mut self.at, self.skip);
        self.skip = 0;
        let begin = self.at;
        if begin >= data.len() {
            return None;
        }
        let (flags, id) = step(data, &mut self.at, self.before);
        let fields = match flags & SAME_FIELDS {
            0 => varint(data, &mut self.at) as usize,
            _ => node.fields as usize,
        };
        let entry = Entry {
            id,
            fields,
            flags,
            at: begin,
            body: self.at,
            node,
        };
        self.before = id;
        self.skip = entry.elems();
        Some(entry)
    }
}

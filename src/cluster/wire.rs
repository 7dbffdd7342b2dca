//! The messages of the bus, as bytes. All numbers are big-endian; names are 40 hexadecimal digits, and 40
//! zero bytes stand for no node.
//!
//! ```text
//!      0 "RCmb"                          2128 name of the sender's master
//!      4 length of the message   u32     2168 address of the sender, 46 bytes, empty: as the socket says
//!      8 version (1)             u16     2214 how many extensions      u16
//!     10 port of clients         u16     2216 unused, 30 bytes
//!     12 kind                    u16     2246 the other port (TLS)     u16
//!     14 how many gossip entries u16     2248 port of the bus          u16
//!     16 current epoch           u64     2250 what the sender is       u16
//!     24 configuration epoch     u64     2252 state: 0 ok, 1 fail      u8
//!     32 offset of replication   u64     2253 flags of the message, 3 bytes
//!     40 name of the sender              2256 what the kind of message has beyond that:
//!     80 slots, 2048 bytes
//!
//! PING, PONG, MEET  gossip entries, then extensions
//!   entry, 104 bytes:  name 40, ping sent u32 s, pong received u32 s, address 46, port u16, bus port u16, flags u16,
//!                      other port u16, unused 2
//!   extension:         length u32 (these 8 bytes counted, a multiple of 8), type u16, unused 2, data
//! FAIL              name 40
//! PUBLISH(SHARD)    length of the channel u32, of the message u32, channel, message
//! UPDATE            configuration epoch u64, name 40, slots 2048
//! MODULE            module u64, length u32, type u8, data
//! AUTH_REQUEST, AUTH_ACK, MFSTART  nothing
//! ```
//! A message is taken apart as a whole or not at all: every length is checked before anything behind it is read.

use super::node::{Flags, NAME_LEN, Name};
use super::slotset::{SLOT_BYTES, SlotSet};

/// The length of what all messages have.
pub const HEADER_LEN: usize = 2256;
/// The bytes that tell how long a message is.
pub const PREFIX_LEN: usize = 8;

const SIGNATURE: &[u8; 4] = b"RCmb";
const VERSION: u16 = 1;
const IP_LEN: usize = 46;
const GOSSIP_LEN: usize = 104;
const EXTENSION_HEAD: usize = 8;

/// How many kinds of messages there are.
pub const KINDS: usize = 11;

/// The kinds of messages, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Kind {
    Ping,
    Pong,
    Meet,
    Fail,
    Publish,
    AuthRequest,
    AuthAck,
    Update,
    ManualStart,
    Module,
    PublishShard,
}

impl Kind {
    pub const ALL: [Kind; KINDS] = [
        Kind::Ping,
        Kind::Pong,
        Kind::Meet,
        Kind::Fail,
        Kind::Publish,
        Kind::AuthRequest,
        Kind::AuthAck,
        Kind::Update,
        Kind::ManualStart,
        Kind::Module,
        Kind::PublishShard,
    ];

    /// What statistics call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ping => "ping",
            Kind::Pong => "pong",
            Kind::Meet => "meet",
            Kind::Fail => "fail",
            Kind::Publish => "publish",
            Kind::AuthRequest => "auth-req",
            Kind::AuthAck => "auth-ack",
            Kind::Update => "update",
            Kind::ManualStart => "mfstart",
            Kind::Module => "module",
            Kind::PublishShard => "publishshard",
        }
    }
}

/// What statistics call messages of this number.
pub fn kind_name(number: u16) -> &'static str {
    let kind = Kind::ALL.get(usize::from(number));
    kind.map_or("unknown", |kind| kind.name())
}

/// A master holds its clients for a manual failover.
pub const PAUSED: u8 = 1;
/// A vote is asked for although the master is up.
pub const FORCE_ACK: u8 = 2;
/// There are extensions.
const EXTENDED: u8 = 4;

/// What all messages have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub port: u16,
    /// The other port: TLS clients'.
    pub other_port: u16,
    pub bus_port: u16,
    pub current_epoch: u64,
    pub config_epoch: u64,
    pub offset: u64,
    pub sender: Name,
    pub slots: SlotSet,
    pub master: Option<Name>,
    /// Where the sender says it is; empty if it does not.
    pub ip: String,
    pub flags: Flags,
    pub is_ok: bool,
    /// [`PAUSED`], [`FORCE_ACK`].
    pub marks: u8,
}

/// What a node tells of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gossip {
    pub name: Name,
    pub ping_sent_s: u32,
    pub pong_received_s: u32,
    pub ip: String,
    pub port: u16,
    pub bus_port: u16,
    pub flags: Flags,
    pub other_port: u16,
}

/// What a node tells of itself beyond the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extension {
    Hostname(String),
    /// What people call it.
    Nodename(String),
    /// A node that is to be forgotten, and is not to be heard of for so many seconds.
    Forgotten(Name, u64),
    Shard(Name),
    Unknown(u16),
}

/// What a message has beyond its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Gossip(Vec<Gossip>, Vec<Extension>),
    Fail(Name),
    Publish {
        channel: Vec<u8>,
        message: Vec<u8>,
    },
    Update {
        config_epoch: u64,
        name: Name,
        slots: SlotSet,
    },
    /// Nothing, or nothing that concerns us.
    Other,
}

/// A message that was understood. A kind of which we know nothing has a header and no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: u16,
    pub header: Header,
    pub body: Body,
}

/// Why a message can't be understood, in the words of the log; some are passed over in silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    Silently,
    Because(String),
}

/// What is no message at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMessage;

/// The length of the message that begins so, once that can be told; `Err` if it can't be one.
pub fn length(begin: &[u8]) -> Result<Option<usize>, NoMessage> {
    let Some((signature, rest)) = begin.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let Some((length, _)) = rest.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    match signature == SIGNATURE && length >= HEADER_LEN {
        true => Ok(Some(length)),
        false => Err(NoMessage),
    }
}

/// The kind that a message says it has; 0 if it is too short for that.
pub fn kind_of(frame: &[u8]) -> u16 {
    let mut reader = Reader(frame.get(12..).unwrap_or_default());
    reader.u16().unwrap_or(0)
}

/// Bytes that are read from the front. `None`: there are not so many.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| *byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// A name; [`Name::NONE`] for what is none.
    fn name(&mut self) -> Option<Name> {
        let digits = self.array::<NAME_LEN>()?;
        Some(Name::parse(digits).unwrap_or(Name::NONE))
    }

    fn slots(&mut self) -> Option<SlotSet> {
        self.array::<SLOT_BYTES>().map(SlotSet::from_bytes)
    }

    fn ip(&mut self) -> Option<String> {
        let field = self.array::<IP_LEN>()?;
        Some(text_of(field).filter(|t| is_address(t)).unwrap_or_default())
    }
}

/// A text that ends with a zero byte, or with its field.
fn text_of(field: &[u8]) -> Option<String> {
    let end = memchr::memchr(0, field).unwrap_or(field.len());
    String::from_utf8(field.get(..end)?.to_vec()).ok()
}

/// What may stand for an address: it will be written where commas and spaces have a meaning.
fn is_address(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_graphic() && !b",@\"'\\".contains(&b);
    text.bytes().all(good)
}

/// What may be a name of a host.
fn is_hostname(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    text.bytes().all(good)
}

/// What may be what people call a node.
fn is_nodename(text: &str) -> bool {
    let bad = |b: u8| b"!#$%&()*+:;<>?@[]^{|}~,=\"'\\".contains(&b);
    text.bytes().all(|b| b.is_ascii_graphic() && !bad(b))
}

/// Takes a whole message apart; its length has been checked to be that which it tells.
pub fn decode(frame: &[u8]) -> Result<Message, Unreadable> {
    let (kind, header, counts) = decode_header(frame).ok_or(Unreadable::Silently)?;
    let mut reader = Reader(frame.get(HEADER_LEN..).unwrap_or_default());
    let body = match Kind::ALL.get(usize::from(kind)) {
        Some(Kind::Ping | Kind::Pong | Kind::Meet) => {
            let gossip = decode_gossip(&mut reader, counts.gossip);
            let gossip = gossip.ok_or_else(|| bad_length(frame, expected(counts)))?;
            let extensions = decode_extensions(&mut reader, kind, counts, frame.len())?;
            Body::Gossip(gossip, extensions)
        }
        Some(Kind::Fail) => {
            let name = reader.name();
            Body::Fail(name.ok_or_else(|| bad_length(frame, HEADER_LEN + NAME_LEN))?)
        }
        Some(Kind::Publish | Kind::PublishShard) => decode_publish(&mut reader, frame)?,
        Some(Kind::Update) => {
            let update = decode_update(&mut reader);
            update.ok_or_else(|| bad_length(frame, HEADER_LEN + UPDATE_LEN))?
        }
        Some(Kind::Module) => {
            let _module = reader.u64();
            let len = reader.u32().unwrap_or(0) as usize;
            let whole = MODULE_HEAD.saturating_add(len);
            if reader.take(len.saturating_add(1)).is_none() {
                return Err(bad_length(frame, HEADER_LEN.saturating_add(whole)));
            }
            Body::Other
        }
        Some(Kind::AuthRequest | Kind::AuthAck | Kind::ManualStart) => Body::Other,
        // It is taken to be as long as it is.
        None => {
            reader.0 = &[];
            Body::Other
        }
    };
    match reader.0 {
        [] => Ok(Message { kind, header, body }),
        rest => Err(bad_length(frame, frame.len() - rest.len())),
    }
}

const UPDATE_LEN: usize = 8 + NAME_LEN + SLOT_BYTES;
const MODULE_HEAD: usize = 8 + 4 + 1;

fn bad_length(frame: &[u8], expected: usize) -> Unreadable {
    Unreadable::Because(format!(
        "Received invalid {} packet of length {} but expected length {expected}",
        kind_name(kind_of(frame)),
        frame.len(),
    ))
}

/// How many of what follows.
#[derive(Clone, Copy)]
struct Counts {
    gossip: u16,
    extensions: u16,
}

fn expected(counts: Counts) -> usize {
    HEADER_LEN + usize::from(counts.gossip) * GOSSIP_LEN
}

fn decode_header(frame: &[u8]) -> Option<(u16, Header, Counts)> {
    let mut reader = Reader(frame.get(PREFIX_LEN..)?);
    if reader.u16()? != VERSION {
        return None;
    }
    let port = reader.u16()?;
    let kind = reader.u16()?;
    let gossip = reader.u16()?;
    let current_epoch = reader.u64()?;
    let config_epoch = reader.u64()?;
    let offset = reader.u64()?;
    let sender = reader.name()?;
    let slots = reader.slots()?;
    let master = reader.array::<NAME_LEN>()?;
    let has_master = *master != [0; NAME_LEN];
    let ip = reader.ip()?;
    let extensions = reader.u16()?;
    reader.take(30)?;
    let other_port = reader.u16()?;
    let bus_port = reader.u16()?;
    let flags = Flags(reader.u16()?);
    let state = reader.u8()?;
    let [marks, _, _] = *reader.array::<3>()?;
    let header = Header {
        port,
        other_port,
        bus_port,
        current_epoch,
        config_epoch,
        offset,
        sender,
        slots,
        master: has_master.then(|| Name::parse(master).unwrap_or(Name::NONE)),
        ip,
        flags,
        is_ok: state == 0,
        marks: marks & !EXTENDED,
    };
    let extensions = match marks & EXTENDED {
        0 => 0,
        _ => extensions,
    };
    Some((kind, header, Counts { gossip, extensions }))
}

fn decode_gossip(reader: &mut Reader<'_>, count: u16) -> Option<Vec<Gossip>> {
    let mut all = Reader(reader.take(usize::from(count) * GOSSIP_LEN)?);
    let mut out = Vec::new();
    for _ in 0..count {
        let name = all.name()?;
        let ping_sent_s = all.u32()?;
        let pong_received_s = all.u32()?;
        let ip = all.ip()?;
        let port = all.u16()?;
        let bus_port = all.u16()?;
        let flags = Flags(all.u16()?);
        let other_port = all.u16()?;
        all.u16()?;
        out.push(Gossip {
            name,
            ping_sent_s,
            pong_received_s,
            ip,
            port,
            bus_port,
            flags,
            other_port,
        });
    }
    Some(out)
}

fn decode_extensions(
    reader: &mut Reader<'_>,
    kind: u16,
    counts: Counts,
    total: usize,
) -> Result<Vec<Extension>, Unreadable> {
    let beyond = || {
        Unreadable::Because(format!(
            "Received invalid {} packet with extension data that exceeds total packet length ({total})",
            kind_name(kind)
        ))
    };
    let mut out = Vec::new();
    for _ in 0..counts.extensions {
        let length = reader.u32().ok_or_else(beyond)? as usize;
        if !length.is_multiple_of(8) {
            return Err(Unreadable::Because(format!(
                "Received a {} packet without proper padding ({length} bytes)",
                kind_name(kind)
            )));
        }
        let rest = length.checked_sub(4).and_then(|rest| reader.take(rest));
        let mut rest = Reader(rest.ok_or_else(beyond)?);
        let number = rest.u16().ok_or_else(beyond)?;
        rest.u16().ok_or_else(beyond)?;
        out.extend(decode_extension(number, rest));
    }
    Ok(out)
}

/// An extension, if it can be made sense of.
fn decode_extension(number: u16, mut data: Reader<'_>) -> Option<Extension> {
    match number {
        0 => text_of(data.0)
            .filter(|t| is_hostname(t))
            .map(Extension::Hostname),
        1 => text_of(data.0)
            .filter(|t| is_nodename(t))
            .map(Extension::Nodename),
        2 => Some(Extension::Forgotten(data.name()?, data.u64()?)),
        3 => data
            .name()
            .filter(|&n| n != Name::NONE)
            .map(Extension::Shard),
        number => Some(Extension::Unknown(number)),
    }
}

fn decode_publish(reader: &mut Reader<'_>, frame: &[u8]) -> Result<Body, Unreadable> {
    let lengths = reader.u32().zip(reader.u32());
    let (channel, message) = lengths.ok_or_else(|| bad_length(frame, HEADER_LEN + 8))?;
    let (channel, message) = (channel as usize, message as usize);
    let whole = (HEADER_LEN + 8)
        .saturating_add(channel)
        .saturating_add(message);
    let texts = reader.take(channel).zip(reader.take(message));
    let (channel, message) = texts.ok_or_else(|| bad_length(frame, whole))?;
    Ok(Body::Publish {
        channel: channel.to_vec(),
        message: message.to_vec(),
    })
}

fn decode_update(reader: &mut Reader<'_>) -> Option<Body> {
    Some(Body::Update {
        config_epoch: reader.u64()?,
        name: reader.name()?,
        slots: reader.slots()?,
    })
}

/// A message as bytes.
pub fn encode(kind: Kind, header: &Header, body: &Body) -> Vec<u8> {
    let (gossip, extensions) = match body {
        Body::Gossip(gossip, extensions) => (gossip.len(), extensions.len()),
        _ => (0, 0),
    };
    let mut out = Vec::with_capacity(HEADER_LEN + gossip * GOSSIP_LEN + 256);
    out.extend_from_slice(SIGNATURE);
    // The length, once it is known.
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&header.port.to_be_bytes());
    out.extend_from_slice(&(kind as u16).to_be_bytes());
    out.extend_from_slice(&(gossip as u16).to_be_bytes());
    out.extend_from_slice(&header.current_epoch.to_be_bytes());
    out.extend_from_slice(&header.config_epoch.to_be_bytes());
    out.extend_from_slice(&header.offset.to_be_bytes());
    out.extend_from_slice(header.sender.bytes());
    header.slots.write(&mut out);
    out.extend_from_slice(header.master.unwrap_or(Name::NONE).bytes());
    write_ip(&mut out, &header.ip);
    out.extend_from_slice(&(extensions as u16).to_be_bytes());
    out.extend_from_slice(&[0; 30]);
    out.extend_from_slice(&header.other_port.to_be_bytes());
    out.extend_from_slice(&header.bus_port.to_be_bytes());
    out.extend_from_slice(&header.flags.0.to_be_bytes());
    out.push(u8::from(!header.is_ok));
    let extended = if extensions > 0 { EXTENDED } else { 0 };
    out.extend_from_slice(&[header.marks | extended, 0, 0]);
    debug_assert_eq!(out.len(), HEADER_LEN);
    encode_body(&mut out, body);
    let length = out.len() as u32;
    out[4..PREFIX_LEN].copy_from_slice(&length.to_be_bytes());
    out
}

fn encode_body(out: &mut Vec<u8>, body: &Body) {
    match body {
        Body::Gossip(gossip, extensions) => {
            for entry in gossip {
                encode_gossip(out, entry);
            }
            for extension in extensions {
                encode_extension(out, extension);
            }
        }
        Body::Fail(name) => out.extend_from_slice(name.bytes()),
        Body::Publish { channel, message } => {
            out.extend_from_slice(&(channel.len() as u32).to_be_bytes());
            out.extend_from_slice(&(message.len() as u32).to_be_bytes());
            out.extend_from_slice(channel);
            out.extend_from_slice(message);
        }
        Body::Update {
            config_epoch,
            name,
            slots,
        } => {
            out.extend_from_slice(&config_epoch.to_be_bytes());
            out.extend_from_slice(name.bytes());
            slots.write(out);
        }
        Body::Other => {}
    }
}

/// An address in its field: cut off, so that a zero byte ends it.
fn write_ip(out: &mut Vec<u8>, ip: &str) {
    let mut field = [0; IP_LEN];
    let ip = &ip.as_bytes()[..ip.len().min(IP_LEN - 1)];
    field[..ip.len()].copy_from_slice(ip);
    out.extend_from_slice(&field);
}

fn encode_gossip(out: &mut Vec<u8>, entry: &Gossip) {
    out.extend_from_slice(entry.name.bytes());
    out.extend_from_slice(&entry.ping_sent_s.to_be_bytes());
    out.extend_from_slice(&entry.pong_received_s.to_be_bytes());
    write_ip(out, &entry.ip);
    for number in [
        entry.port,
        entry.bus_port,
        entry.flags.0,
        entry.other_port,
        0,
    ] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn encode_extension(out: &mut Vec<u8>, extension: &Extension) {
    let (number, mut data): (u16, Vec<u8>) = match extension {
        Extension::Hostname(name) => (0, [name.as_bytes(), &[0]].concat()),
        Extension::Nodename(name) => (1, [name.as_bytes(), &[0]].concat()),
        Extension::Forgotten(name, s) => (2, [&name.bytes()[..], &s.to_be_bytes()].concat()),
        Extension::Shard(name) => (3, name.bytes().to_vec()),
        Extension::Unknown(number) => (*number, Vec::new()),
    };
    data.resize(data.len().next_multiple_of(8), 0);
    let length = (EXTENSION_HEAD + data.len()) as u32;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&data);
}

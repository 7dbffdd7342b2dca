//! The connections between nodes. Each node has one of its own to each other: it sends its messages on that and hears the
//! answers there; what comes on a connection that another has opened is only answered.

/// A connection's number. None is ever used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// A connection that another node has opened.
pub type InboundId = ConnId;

/// Our connection to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub conn: ConnId,
    pub created_ms: i64,
    /// The other side has answered.
    pub is_up: bool,
}

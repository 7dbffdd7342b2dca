//! DEBUG PROTOCOL: a reply of each kind, for the tests of clients.

use crate::cmd::fault::Fault;
use crate::cmd::{Args, CmdResult, DONE, is_word};
use crate::exec::Call;
use crate::resp::reply::Reply;

type Example = (&'static str, fn(&mut Reply));

static EXAMPLES: &[Example] = &[
    ("string", |r| r.bulk(b"Hello World")),
    ("integer", |r| r.int(12345)),
    ("double", |r| r.human_double(b"3.141")),
    ("bignum", |r| {
        r.big_number(b"1234567999999999999999999999999999999")
    }),
    ("null", Reply::null),
    ("array", |r| {
        r.array(3);
        (0..3).for_each(|n| r.int(n));
    }),
    ("set", |r| {
        r.set(3);
        (0..3).for_each(|n| r.int(n));
    }),
    ("map", |r| {
        r.map(3);
        for n in 0..3 {
            r.int(n);
            r.bool(n == 1);
        }
    }),
    ("attrib", attribute),
    ("push", push),
    ("verbatim", |r| {
        r.verbatim(b"txt", b"This is a verbatim\nstring")
    }),
    ("true", |r| r.bool(true)),
    ("false", |r| r.bool(false)),
];

/// An attribute, which only RESP3 has, and the reply that it belongs to.
fn attribute(reply: &mut Reply) {
    if reply.is_resp3() {
        reply.raw(b"|1\r\n");
        reply.bulk(b"key-popularity");
        reply.array(2);
        reply.bulk(b"key:123");
        reply.int(90);
    }
    reply.bulk(b"Some real reply following the attribute");
}

/// A reply for clients that drop pushes. The push itself follows it, as any to a client whose command runs.
fn push(reply: &mut Reply) {
    reply.bulk(b"Some real reply following the push reply");
}

/// DEBUG PROTOCOL type
pub fn protocol(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let name = args.argv()[2];
    let Some((name, write)) = EXAMPLES.iter().find(|e| is_word(name, e.0)) else {
        let names: Vec<_> = EXAMPLES.iter().map(|e| e.0).collect();
        return Err(Fault::text(format!(
            "ERR Wrong protocol type name. Please use one of the following: {}",
            names.join("|")
        )));
    };
    if *name == "push" {
        if !call.reply().is_resp3() {
            return Err(Fault::new("ERR RESP2 is not supported by this command"));
        }
        call.server.push_to(call.token, |reply| {
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.int(42);
        });
    }
    write(call.reply());
    DONE
}

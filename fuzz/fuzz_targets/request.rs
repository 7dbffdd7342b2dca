//! What clients send: however it is cut, the parser ends, and never looks at the same bytes for ever.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redstart::resp::request::{Batch, Limits, Parser, Step};

fuzz_target!(|input: &[u8]| {
    let Some((&[step, big], stream)) = input.split_first_chunk() else {
        return;
    };
    let limits = Limits {
        max_bulk_len: 1 << 20,
        authenticated: big & 1 == 0,
        big_arg: usize::from(big).max(2),
    };
    let (mut parser, mut batch) = (Parser::new(), Batch::default());
    let mut buffer = Vec::new();
    for part in stream.chunks(usize::from(step).max(1)) {
        buffer.extend_from_slice(part);
        loop {
            let step = parser.parse(&buffer, &mut batch, &limits, 16);
            let _ = batch.all(&buffer).iter().count();
            let before = buffer.len();
            buffer.drain(..batch.consumed());
            match step {
                Step::NeedMore => break,
                Step::Again => assert!(buffer.len() < before, "it goes round"),
                Step::Big { at, len } => {
                    let mut arg = buffer.split_off(at);
                    arg.resize(len + 2, b'x');
                    parser.supply_big(arg.into());
                }
                Step::Error(_) => return,
            }
        }
    }
});

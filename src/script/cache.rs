//! The scripts of EVAL, compiled, by the SHA1 of their text.
//!
//! EVAL brings the text itself. It is looked up by the text, so that a script which is known is never hashed.

use std::collections::HashMap;
use std::ffi::c_int;

use ahash::RandomState;
use bytes::Bytes;

use crate::base::checksum;
use crate::cmd::Fault;
use crate::script::flags::{ScriptFlags, shebang};
use crate::script::vm::Vm;

/// A SHA1 in small hexadecimal digits.
pub type Sha = [u8; 40];

/// A script that was compiled.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    pub sha: Sha,
    pub flags: ScriptFlags,
    /// The kept function.
    pub function: c_int,
}

impl Script {
    /// The name that errors and logs give it.
    pub fn name(&self) -> &str {
        std::str::from_utf8(&self.sha).unwrap_or_default()
    }
}

/// See the head of the file.
#[derive(Debug)]
pub struct ScriptCache {
    by_text: HashMap<Bytes, Script, RandomState>,
    by_sha: HashMap<Sha, Script, RandomState>,
    text_bytes: usize,
}

impl ScriptCache {
    /// An empty one. `seed` keys its tables.
    pub fn new(seed: u64) -> ScriptCache {
        let state = RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 1);
        ScriptCache {
            by_text: HashMap::with_hasher(state.clone()),
            by_sha: HashMap::with_hasher(state),
            text_bytes: 0,
        }
    }

    /// The script of this text, if it is known.
    pub fn by_text(&self, text: &[u8]) -> Option<Script> {
        self.by_text.get(text).copied()
    }

    /// The script of this SHA1, in any case of letters.
    pub fn by_sha(&self, sha: &[u8]) -> Option<Script> {
        let mut sha: Sha = sha.try_into().ok()?;
        sha.make_ascii_lowercase();
        self.by_sha.get(&sha).copied()
    }

    /// The script of this text, compiled now if it is not known.
    pub fn get_or_compile(&mut self, vm: &mut Vm, text: &[u8]) -> Result<Script, Fault> {
        if let Some(script) = self.by_text(text) {
            return Ok(script);
        }
        let (flags, code_at) = shebang(text)?;
        let code = &text[code_at..];
        let function = vm.compile(code, c"@user_script").map_err(|why| {
            Fault::text([b"ERR Error compiling script (new function): ", &why[..]].concat())
        })?;
        let sha = checksum::sha1_hex(text);
        let sha = sha.as_bytes().try_into().unwrap_or([b'0'; 40]);
        let script = Script {
            sha,
            flags,
            function,
        };
        self.by_text.insert(Bytes::copy_from_slice(text), script);
        self.by_sha.insert(sha, script);
        self.text_bytes += text.len();
        Ok(script)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_sha.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.by_sha.is_empty()
    }

    /// Bytes that they hold outside the interpreter.
    pub fn memory(&self) -> usize {
        let each = size_of::<Bytes>() + size_of::<Sha>() + 2 * size_of::<Script>() + 2;
        let places = self.by_text.capacity().max(self.by_sha.capacity());
        self.text_bytes + places * each
    }
}

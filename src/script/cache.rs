//! The scripts of EVAL, compiled, by the SHA1 of their text.
//!
//! EVAL brings the text itself. It is looked up by the text, so that a script which is known is never hashed.

use std::collections::HashMap;
use std::ffi::c_int;

use ahash::RandomState;

use crate::base::checksum;
use crate::cmd::Fault;
use crate::ds::defrag::Mover;
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

/// A script and its text.
#[derive(Debug)]
struct Kept {
    script: Script,
    text: Box<[u8]>,
}

/// See the head of the file.
#[derive(Debug)]
pub struct ScriptCache {
    kept: Vec<Kept>,
    /// Places among those, by the hash of the text.
    by_text: HashMap<u64, usize, RandomState>,
    by_sha: HashMap<Sha, usize, RandomState>,
    text_bytes: usize,
}

impl ScriptCache {
    /// An empty one. `seed` keys its tables.
    pub fn new(seed: u64) -> ScriptCache {
        let state = RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 1);
        ScriptCache {
            kept: Vec::new(),
            by_text: HashMap::with_hasher(state.clone()),
            by_sha: HashMap::with_hasher(state),
            text_bytes: 0,
        }
    }

    /// The script of this text, if it is known. (Of two texts with the same hash the later one is.)
    pub fn by_text(&self, text: &[u8]) -> Option<Script> {
        let place = self.by_text.get(&self.hash(text))?;
        let kept = &self.kept[*place];
        (*kept.text == *text).then_some(kept.script)
    }

    fn hash(&self, text: &[u8]) -> u64 {
        self.by_sha.hasher().hash_one(text)
    }

    /// The script of this SHA1, in any case of letters.
    pub fn by_sha(&self, sha: &[u8]) -> Option<Script> {
        let mut sha: Sha = sha.try_into().ok()?;
        sha.make_ascii_lowercase();
        Some(self.kept[*self.by_sha.get(&sha)?].script)
    }

    /// The script of this text, compiled now if it is not known.
    pub fn get_or_compile(&mut self, vm: &mut Vm, text: &[u8]) -> Result<Script, Fault> {
        if let Some(script) = self.by_text(text) {
            return Ok(script);
        }
        let sha = checksum::sha1_hex(text);
        let sha = sha.as_bytes().try_into().unwrap_or([b'0'; 40]);
        if let Some(script) = self.by_sha(&sha) {
            return Ok(script);
        }
        let (flags, code_at) = shebang(text)?;
        let code = &text[code_at..];
        let function = vm.compile(code, c"@user_script").map_err(|why| {
            Fault::text([b"ERR Error compiling script (new function): ", &why[..]].concat())
        })?;
        let script = Script {
            sha,
            flags,
            function,
        };
        let place = self.kept.len();
        self.by_text.insert(self.hash(text), place);
        self.by_sha.insert(sha, place);
        self.text_bytes += text.len();
        let text = text.into();
        self.kept.push(Kept { script, text });
        Ok(script)
    }

    /// Shows the texts of some hundred scripts from number `from` on to a mover. Where to go on: `None` at the end.
    pub fn defrag(&mut self, from: usize, mover: &mut Mover<'_>) -> Option<usize> {
        const STEP: usize = 256;
        let rest = self.kept.get_mut(from..)?;
        for kept in rest.iter_mut().take(STEP) {
            mover.slice(&mut kept.text);
        }
        (rest.len() > STEP).then_some(from + STEP)
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
        let each = size_of::<Kept>() + size_of::<Sha>() + size_of::<u64>();
        let places = 2 * (size_of::<usize>() + 1);
        self.text_bytes + self.by_sha.capacity() * (each + places)
    }
}

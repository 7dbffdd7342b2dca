//! Things by name, in the order of their names: the groups of a stream, the consumers of a group.
//!
//! Mostly a handful, sometimes a hundred thousand; so they lie in counted chunks of up to 64, and a writer beside a
//! snapshot copies the row of chunk pointers, one chunk, and the one thing it changes.

use crate::ds::cow::Shared;
use crate::ds::defrag::Mover;

/// Things in a full chunk.
const CHUNK_MAX: usize = 64;

/// Of more things than this, only as many are looked at for an estimate.
const SAMPLE: usize = 64;

/// A thing that has a name, which never changes.
pub trait Named: Clone {
    fn name(&self) -> &[u8];
}

type Chunk<T> = Shared<Vec<Shared<T>>>;

/// See the head of the file.
#[derive(Clone)]
pub struct Names<T: Named> {
    /// In order; none is empty.
    chunks: Vec<Chunk<T>>,
    len: usize,
}

impl<T: Named> Names<T> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Names {
            chunks: Vec::new(),
            len: 0,
        }
    }

    /// Shows chunk `at` and the things in it to a mover, and the row of chunks with the first. Where to go on: `None` at
    /// the end.
    pub fn defrag<'m>(
        &mut self,
        at: u64,
        mover: &mut Mover<'m>,
        mut f: impl FnMut(&mut T, &mut Mover<'m>),
    ) -> Option<u64> {
        if at == 0 {
            mover.vec(&mut self.chunks);
        }
        let chunk = self.chunks.get_mut(usize::try_from(at).ok()?)?;
        if let Some(things) = Shared::defrag(chunk, mover) {
            mover.vec(things);
            for thing in things {
                if let Some(thing) = Shared::defrag(thing, mover) {
                    f(thing, mover);
                }
            }
        }
        Some(at + 1)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The chunk where a name is or belongs, and its place there.
    fn find(&self, name: &[u8]) -> (usize, Result<usize, usize>) {
        let behind = self.chunks.partition_point(|chunk| chunk[0].name() <= name);
        let chunk = behind.saturating_sub(1);
        let place = match self.chunks.get(chunk) {
            Some(things) => things.binary_search_by(|thing| thing.name().cmp(name)),
            None => Err(0),
        };
        (chunk, place)
    }

    /// The thing of that name.
    pub fn get(&self, name: &[u8]) -> Option<&T> {
        let (chunk, place) = self.find(name);
        let place = place.ok()?;
        Some(&self.chunks[chunk][place])
    }

    /// The same for writing.
    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut T> {
        let (chunk, place) = self.find(name);
        let place = place.ok()?;
        let chunk = Shared::make_mut(&mut self.chunks[chunk]);
        Some(Shared::make_mut(&mut chunk[place]))
    }

    /// Adds a thing; false if there is one of that name.
    pub fn insert(&mut self, thing: T) -> bool {
        let (chunk, place) = self.find(thing.name());
        let Err(place) = place else {
            return false;
        };
        self.len += 1;
        if self.chunks.is_empty() {
            self.chunks.push(Shared::new(vec![Shared::new(thing)]));
            return true;
        }
        let things = Shared::make_mut(&mut self.chunks[chunk]);
        things.insert(place, Shared::new(thing));
        if things.len() > CHUNK_MAX {
            let tail = things.split_off(CHUNK_MAX / 2);
            self.chunks.insert(chunk + 1, Shared::new(tail));
        }
        true
    }

    /// Takes the thing of that name out.
    pub fn remove(&mut self, name: &[u8]) -> Option<Shared<T>> {
        let (chunk, place) = self.find(name);
        let place = place.ok()?;
        let things = Shared::make_mut(&mut self.chunks[chunk]);
        let removed = things.remove(place);
        self.len -= 1;
        if things.is_empty() {
            self.chunks.remove(chunk);
        }
        Some(removed)
    }

    /// The sum of a figure over all, from those that come first by name if there are many.
    pub fn estimate(&self, figure: impl Fn(&T) -> usize) -> usize {
        let looked_at = self.len.min(SAMPLE);
        let sum: usize = self.iter().take(looked_at).map(figure).sum();
        (sum * self.len).checked_div(looked_at).unwrap_or(0)
    }

    /// All, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.iter())
            .map(|t| &**t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug, PartialEq)]
    struct Thing(Vec<u8>, u32);

    impl Named for Thing {
        fn name(&self) -> &[u8] {
            &self.0
        }
    }

    #[test]
    fn names_are_as_a_sorted_map_and_a_clone_keeps_what_it_saw() {
        let (mut names, mut model) = (Names::<Thing>::new(), BTreeMap::new());
        let mut kept = Vec::new();
        let mut n = 1u32;
        for i in 0..5000u32 {
            n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let name = (n >> 20 & 0x1FF).to_string().into_bytes();
            match n >> 8 & 3 {
                0 => assert_eq!(
                    names.remove(&name).map(|t| t.1),
                    model.remove(&name),
                    "removed"
                ),
                1 => {
                    if let Some(thing) = names.get_mut(&name) {
                        thing.1 = i;
                        model.insert(name, i);
                    }
                }
                _ => {
                    let is_new = !model.contains_key(&name);
                    assert_eq!(names.insert(Thing(name.clone(), i)), is_new);
                    model.entry(name).or_insert(i);
                }
            }
            if i % 1000 == 500 {
                kept.push((names.clone(), model.clone()));
            }
        }
        for (names, model) in kept {
            assert_eq!(names.len(), model.len());
            assert!(names.iter().map(|t| (&t.0, &t.1)).eq(model.iter()));
        }
        assert!(names.chunks.len() > 4);
    }
}

//! What an open slot needs: one that some node holds for migrating or importing, while nobody moves it any more.

use super::NodeAt;

/// Who has to do with a slot.
#[derive(Debug, Clone, Default)]
pub struct Open {
    pub owner: Option<NodeAt>,
    pub migrating: Vec<NodeAt>,
    pub importing: Vec<NodeAt>,
    /// Where the first that is migrating says it goes, if that is one of those that are importing.
    pub target: Option<NodeAt>,
}

/// What is to be done. The numbers are those of Redis's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cure {
    /// 1: one gives, one takes: it is moved.
    Move {
        from: NodeAt,
        to: NodeAt,
    },
    /// 2: nobody gives, and some have keys: those go to the owner.
    Gather,
    /// 3: one gives, and of several that take it means one: it is moved there, and closed at the others.
    MoveAndClose {
        from: NodeAt,
        to: NodeAt,
    },
    /// 3: it means none of them: the slot is closed everywhere.
    CloseAll {
        at: NodeAt,
    },
    /// 4: nobody takes: it is closed where it is.
    Close {
        at: NodeAt,
    },
    Unknown,
}

impl Open {
    /// Decides. `keys` tells whether a node has keys of the slot, which is asked only where it matters.
    pub fn cure<E>(&self, mut keys: impl FnMut(NodeAt) -> Result<bool, E>) -> Result<Cure, E> {
        Ok(match (&self.migrating[..], &self.importing[..]) {
            (&[from], &[to]) => Cure::Move { from, to },
            ([], [_, ..]) => Cure::Gather,
            (&[from], [_, _, ..]) => {
                for &node in &self.importing {
                    if keys(node)? {
                        return Ok(Cure::Unknown);
                    }
                }
                match self.target {
                    Some(to) => Cure::MoveAndClose { from, to },
                    None => Cure::CloseAll { at: from },
                }
            }
            (&[at], []) if self.owner == Some(at) || !keys(at)? => Cure::Close { at },
            _ => Cure::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_cure() {
        let open = |owner, migrating: &[NodeAt], importing: &[NodeAt], target| Open {
            owner,
            migrating: migrating.to_vec(),
            importing: importing.to_vec(),
            target,
        };
        let cure = |open: &Open, with_keys: &[NodeAt]| {
            open.cure(|node| Ok::<_, ()>(with_keys.contains(&node)))
                .unwrap()
        };
        let case = open(Some(0), &[0], &[1], Some(1));
        assert_eq!(cure(&case, &[1]), Cure::Move { from: 0, to: 1 });
        let case = open(Some(0), &[], &[1, 2], None);
        assert_eq!(cure(&case, &[1]), Cure::Gather);
        let case = open(Some(0), &[0], &[1, 2], Some(2));
        assert_eq!(cure(&case, &[]), Cure::MoveAndClose { from: 0, to: 2 });
        assert_eq!(cure(&case, &[1]), Cure::Unknown);
        let case = open(Some(0), &[0], &[1, 2], None);
        assert_eq!(cure(&case, &[0]), Cure::CloseAll { at: 0 });
        let case = open(Some(0), &[0], &[], None);
        assert_eq!(cure(&case, &[0]), Cure::Close { at: 0 });
        let case = open(Some(1), &[0], &[], None);
        assert_eq!(cure(&case, &[]), Cure::Close { at: 0 });
        assert_eq!(cure(&case, &[0]), Cure::Unknown);
        assert_eq!(
            cure(&open(Some(0), &[0, 1], &[2], None), &[]),
            Cure::Unknown
        );
        assert_eq!(case.cure(|_| Err("gone")), Err("gone"));
    }
}

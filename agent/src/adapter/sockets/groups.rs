//! From the ids of many sockets' cgroups to units, with as little looking as possible.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;

use super::cgroup::{Unit, unit_of};
use super::diag::Found;
use crate::adapter::cgroups::Cgroups;

/// A group that has sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Path below the mount of the unified tree.
    pub path: String,
    /// The unit that it lies in, if any.
    pub unit: Option<Unit>,
}

/// The groups of the sockets that were seen last.
///
/// A kernel does not use the id of a group twice, and groups cannot be moved, so what was found once stays true for as long
/// as the group is there. Only an id that was not seen before costs a walk of the tree; one that is not in the tree (a group
/// that is gone, or outside of a container that we run in) is not looked for again.
#[derive(Debug)]
pub struct Groups {
    tree: Cgroups,
    known: BTreeMap<u64, Option<Group>>,
}

impl Groups {
    /// Knows nothing yet.
    pub fn new() -> io::Result<Self> {
        Cgroups::mounted().map(Self::of)
    }

    /// The same in a tree of one's own.
    pub fn of(tree: Cgroups) -> Self {
        Self {
            tree,
            known: BTreeMap::new(),
        }
    }

    /// Finds the groups of all these sockets, and forgets others.
    pub fn learn(&mut self, found: &[Found]) {
        let ids: BTreeSet<u64> = found.iter().filter_map(|found| found.cgroup).collect();
        let tree = &self.tree;
        self.known.retain(|id, group| {
            ids.contains(id)
                && group
                    .as_ref()
                    .is_none_or(|group| tree.id_of(&group.path) == Some(*id))
        });
        let mut left: BTreeSet<u64> = ids
            .into_iter()
            .filter(|id| !self.known.contains_key(id))
            .collect();
        if left.is_empty() {
            return;
        }
        tree.walk("/", |group| {
            if left.remove(&group.id) {
                let unit = unit_of(&group.path);
                let path = group.path;
                self.known.insert(group.id, Some(Group { path, unit }));
            }
            if left.is_empty() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        self.known.extend(left.into_iter().map(|id| (id, None)));
    }

    /// The group that a socket was made in; none when it is not told, gone, or was not learnt.
    pub fn group(&self, found: &Found) -> Option<&Group> {
        self.known.get(&found.cgroup?)?.as_ref()
    }

    /// The unit that a socket was made in.
    pub fn unit(&self, found: &Found) -> Option<&Unit> {
        self.group(found)?.unit.as_ref()
    }

    /// The tree that they lie in.
    pub fn tree(&self) -> &Cgroups {
        &self.tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::sockets::diag::State;
    use dagger_suite::model::Protocol;
    use dagger_suite::names::Root;
    use std::fs;
    use std::path::PathBuf;

    fn socket(cgroup: Option<u64>) -> Found {
        Found {
            protocol: Protocol::Tcp,
            address: "0.0.0.0:80".parse().unwrap(),
            state: State::Listening,
            v6only: None,
            device: 0,
            uid: 0,
            inode: 1,
            cgroup,
        }
    }

    struct World(PathBuf);

    impl World {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("dagger-groups-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            Self(root)
        }

        fn make(&self, group: &str) {
            fs::create_dir_all(self.dir(group)).unwrap();
        }

        fn dir(&self, group: &str) -> PathBuf {
            self.0.join("sys/fs/cgroup").join(group)
        }

        fn tree(&self) -> Cgroups {
            Cgroups::below(&Root::new(&self.0))
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_group_that_goes_away_is_forgotten_and_none_is_made_up() {
        let world = World::new("gone");
        world.make("system.slice/a.service");
        world.make("system.slice/b.service");
        let tree = world.tree();
        let id = |path: &str| tree.id_of(path);
        let (a, b) = (id("system.slice/a.service"), id("system.slice/b.service"));
        let sockets = [socket(a), socket(b), socket(Some(u64::MAX)), socket(None)];
        let mut groups = Groups::of(tree.clone());
        assert_eq!(groups.unit(&sockets[0]), None, "nothing is known unlearnt");
        groups.learn(&sockets);
        let names = |groups: &Groups| {
            let name = |socket| groups.unit(socket).map(|unit| unit.name.clone());
            sockets.iter().map(name).collect::<Vec<_>>()
        };
        let (a, b) = (Some("a.service".to_owned()), Some("b.service".to_owned()));
        assert_eq!(names(&groups), [a, b.clone(), None, None]);
        fs::rename(world.dir("system.slice/a.service"), world.dir("kept")).unwrap();
        world.make("system.slice/a.service");
        // Another group of the same name: the socket is not its.
        fs::remove_dir(world.dir("kept")).unwrap();
        groups.learn(&sockets);
        assert_eq!(names(&groups), [None, b, None, None]);
    }

    #[test]
    fn only_what_was_asked_for_is_kept() {
        let world = World::new("kept");
        for number in 0..50 {
            world.make(&format!("system.slice/{number}.service"));
        }
        let mut groups = Groups::of(world.tree());
        let id = groups.tree().id_of("system.slice/7.service");
        groups.learn(&[socket(id)]);
        assert_eq!(groups.known.len(), 1);
        groups.learn(&[]);
        assert!(groups.known.is_empty());
    }
}

//! The whole suite, one service after the other: in which order, and what becomes of it.

use crate::domain::job::{End, Ended, Task};

/// A service, as far as the order is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Its name.
    pub name: &'a str,
    /// The services that it would like to find answering.
    pub wants: &'a [String],
}

/// Names in an order in which what others want comes first; alphabetical beside that. Services that want each other
/// come when nothing else is left.
pub fn order(members: &[Member<'_>]) -> Vec<String> {
    let mut left: Vec<Member<'_>> = members.to_vec();
    let mut ordered = Vec::new();
    loop {
        let is_free = |member: &&Member<'_>| {
            let waits = |wanted: &String| {
                wanted != member.name && left.iter().any(|other| other.name == wanted.as_str())
            };
            !member.wants.iter().any(waits)
        };
        let first = |free: bool| {
            let them = left.iter().filter(|member| !free || is_free(member));
            them.map(|member| member.name).min()
        };
        let Some(name) = first(true).or_else(|| first(false)) else {
            return ordered;
        };
        left.retain(|member| member.name != name);
        ordered.push(name.to_owned());
    }
}

/// One task on service after service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct All {
    /// What is done to each.
    pub task: Task,
    /// The services.
    pub order: Vec<String>,
    /// So many of them are done.
    pub done: usize,
    /// The job of the one that is at work.
    pub current: Option<u64>,
    /// Somebody wants it to stop.
    pub cancelled: bool,
    /// How it ended.
    pub end: Option<End>,
}

impl All {
    /// Nothing of it is done; there is at least one service.
    pub fn new(task: Task, order: Vec<String>) -> Self {
        Self {
            task,
            order,
            done: 0,
            current: None,
            cancelled: false,
            end: None,
        }
    }

    /// The service that is next; none while one is at work, and at the end.
    pub fn next(&self) -> Option<&str> {
        if self.end.is_some() || self.current.is_some() {
            return None;
        }
        self.order.get(self.done).map(String::as_str)
    }

    /// The service that is at work or was last.
    pub fn at(&self) -> &str {
        self.order
            .get(self.done)
            .or(self.order.last())
            .map_or("", String::as_str)
    }

    /// The job of the service that is at work has ended.
    pub fn ended(&mut self, end: &End) {
        self.current = None;
        if end.result != Ended::Done {
            self.end = Some(self.stopped(end, self.done + 1));
            return;
        }
        self.done += 1;
        if self.done >= self.order.len() {
            let all = format!("{}: {}", self.did(), self.order.join(", "));
            self.end = Some(End::new(Ended::Done, all, self.way_back()));
        } else if self.cancelled {
            let why = End::new(Ended::Undone, "somebody cancelled it", None);
            self.end = Some(self.stopped(&why, self.done));
        }
    }

    /// It stops before so many services have been touched.
    fn stopped(&self, why: &End, touched: usize) -> End {
        let list = |what: &str, names: Option<&[String]>| match names {
            None | Some([]) => String::new(),
            Some(names) => format!("; {what}: {}", names.join(", ")),
        };
        let (done, untouched) = (self.order.get(..self.done), self.order.get(touched..));
        let sentence = format!(
            "stopped at {}: {}{}{}",
            self.at(),
            why.sentence,
            list(self.did(), done),
            list("untouched", untouched)
        );
        let again = format!("`nixarr-migrate {} all` goes on with the rest", self.task.word());
        let todo = match &why.todo {
            Some(todo) => format!("{todo}; then {again}"),
            None => again,
        };
        End::new(why.result, sentence, Some(todo))
    }

    fn did(&self) -> &'static str {
        match self.task {
            Task::Rollback => "rolled back",
            _ => "migrated",
        }
    }

    fn way_back(&self) -> Option<String> {
        (self.task == Task::Migrate).then(|| "the way back: nixarr-migrate rollback all".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(members: &[(&str, &[&str])]) -> Vec<String> {
        let wants: Vec<Vec<String>> = members
            .iter()
            .map(|(_, wants)| wants.iter().map(ToString::to_string).collect())
            .collect();
        let members: Vec<Member<'_>> = members
            .iter()
            .zip(&wants)
            .map(|((name, _), wants)| Member { name, wants })
            .collect();
        order(&members)
    }

    #[test]
    fn what_others_want_comes_first() {
        let suite = [
            ("bazarr", &["sonarr", "radarr"][..]),
            ("jellyfin", &[]),
            ("prowlarr", &[]),
            ("radarr", &["prowlarr", "transmission"]),
            ("sonarr", &["prowlarr", "transmission"]),
            ("transmission", &[]),
        ];
        assert_eq!(
            names(&suite),
            [
                "jellyfin",
                "prowlarr",
                "transmission",
                "radarr",
                "sonarr",
                "bazarr"
            ]
        );
        // What is not among them is not waited for, and a circle comes to an end.
        assert_eq!(names(&[("b", &["x", "b"]), ("a", &["b"])]), ["b", "a"]);
        assert_eq!(
            names(&[("b", &["a"]), ("a", &["b"]), ("c", &[])]),
            ["c", "a", "b"]
        );
    }

    fn all() -> All {
        All::new(
            Task::Migrate,
            ["prowlarr", "radarr", "sonarr"].map(str::to_owned).into(),
        )
    }

    fn done() -> End {
        End::new(Ended::Done, "it runs", None)
    }

    #[test]
    fn one_after_the_other_until_all_are_done() {
        let mut all = all();
        for name in ["prowlarr", "radarr", "sonarr"] {
            assert_eq!(all.next(), Some(name));
            all.current = Some(1);
            assert_eq!(all.next(), None, "one at a time");
            all.ended(&done());
        }
        let end = all.end.unwrap();
        assert_eq!(end.sentence, "migrated: prowlarr, radarr, sonarr");
        assert!(end.todo.unwrap().contains("rollback all"));
    }

    #[test]
    fn the_first_failure_is_the_last_thing_that_happens() {
        let mut all = all();
        all.ended(&done());
        all.ended(&End::new(
            Ended::Undone,
            "radarr is as it was",
            Some("look at it".into()),
        ));
        assert_eq!(all.next(), None);
        let end = all.end.unwrap();
        assert_eq!(
            end.sentence,
            "stopped at radarr: radarr is as it was; migrated: prowlarr; untouched: sonarr"
        );
        assert_eq!(end.result, Ended::Undone);
        assert_eq!(
            end.todo.unwrap(),
            "look at it; then `nixarr-migrate migrate all` goes on with the rest"
        );
    }

    #[test]
    fn it_can_be_stopped_between_two() {
        let mut all = all();
        all.cancelled = true;
        all.ended(&done());
        let end = all.end.unwrap();
        assert_eq!(
            end.sentence,
            "stopped at radarr: somebody cancelled it; migrated: prowlarr; untouched: radarr, sonarr"
        );
    }
}

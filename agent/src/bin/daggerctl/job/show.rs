//! Jobs as people read them. Pure: what was shown before is handed in.

use std::fmt::Write as _;
use std::time::Duration;

use dagger_agent::adapter::bus::JobView;
use dagger_agent::adapter::bus::job_view::UNKNOWN;
use dagger_agent::domain::transaction::{Data, Options, Step, Verb, forward, steps};

use crate::text::{bytes, clean, span};

/// What a step does, for people.
fn doing(step: Step) -> &'static str {
    match step {
        Step::StopShadow => "the shadow stops",
        Step::DropShadow => "the shadow's copy is removed",
        Step::Pull => "the image is fetched",
        Step::Clone => "the data is copied for the shadow",
        Step::StartShadow => "the shadow starts",
        Step::Snapshot => "the data is copied to a snapshot, while the service runs",
        Step::Stop => "the service stops",
        Step::Refresh => "what has changed since goes into the snapshot",
        Step::Restore => "the data becomes what the older snapshot holds",
        Step::Check => "the databases are looked through",
        Step::Adjust => "settings are changed",
        Step::Flip => "it changes hands",
        Step::PutBack => "the data becomes what it was",
        Step::SetAside => "what the new side has written is set aside",
        Step::Start => "the service starts",
        Step::Probation => "it has to be well for a while, with everything in it that was there before",
    }
}

/// The same on the way back.
fn undoing(step: Step) -> &'static str {
    match step {
        Step::Snapshot | Step::Clone => "the copy is removed",
        Step::StartShadow => "the shadow stops",
        Step::Stop => "the service starts as it was",
        Step::Restore => "the data becomes what it was",
        Step::Adjust => "settings are changed back",
        Step::Flip => "it changes hands again",
        Step::Start => "the new side stops",
        other => doing(other),
    }
}

/// Where a job is, in one line without how far: `[3/8] stop: the service stops`.
pub fn stage(view: &JobView) -> String {
    let step = match (view.step(), view.step.as_str()) {
        (Some(step), word) if view.state == "undoing" => format!("{word}: {}", undoing(step)),
        (Some(step), word) => format!("{word}: {}", doing(step)),
        (None, "") => match view.state.as_str() {
            "queued" => "the job is queued".into(),
            "undoing" => "everything is undone".into(),
            _ if view.place > 0 => "the job ends".into(),
            _ => "the service and its data are looked at".into(),
        },
        // Of a job on the whole suite the service.
        (None, other) => other.to_owned(),
    };
    // What comes after the last step is none: its number was told.
    let counted = view.steps > 0 && view.place > 0 && !view.step.is_empty();
    let place = if counted && view.state != "undoing" {
        format!("[{}/{}] ", view.place, view.steps)
    } else if view.state == "undoing" {
        "[undo] ".to_owned()
    } else {
        String::new()
    };
    format!("{place}{}", clean(&step))
}

/// The steps that a job has taken between two looks at it, each as [`stage`] has it: one that has little to do is over before
/// anybody is told of it.
pub fn between(before: &JobView, now: &JobView) -> Vec<String> {
    // What was seen before the first look is what a job looks like that has not begun.
    let same = before.number == now.number || before.number == 0;
    let ahead = same && matches!(before.state.as_str(), "" | "queued" | "running") && now.state == "running";
    let verb = Verb::ALL.into_iter().find(|verb| verb.word() == now.verb);
    let Some(verb) = verb.filter(|_| ahead) else {
        return Vec::new();
    };
    // What it was asked for is not told with a job: the lists that it may be taking are as long as its own, and have its
    // steps where it was seen at them.
    let passed = |taken: &[Step]| -> Vec<Step> {
        let ahead = (1..).zip(taken.iter().copied());
        // Its last step may be over, too, while the job is not.
        let end = now.place + u32::from(now.step.is_empty());
        let between = ahead.filter(|(place, _)| (before.place + 1..end).contains(place));
        between.map(|(_, step)| step).collect()
    };
    let lists = [
        (Data::Keep, true),
        (Data::Keep, false),
        (Data::Restore, true),
        (Data::Restore, false),
    ];
    let mut found = lists.into_iter().filter_map(|(data, nothing_to_adjust)| {
        let options = Options {
            data,
            nothing_to_adjust,
            ..Options::default()
        };
        let taken: Vec<Step> = forward(&steps(verb, &options)).collect();
        let same = u32::try_from(taken.len()) == Ok(now.steps) && is_at(&taken, now) && is_at(&taken, before);
        same.then(|| passed(&taken))
    });
    let steps = found.next().unwrap_or_default();
    if found.any(|others| others != steps) {
        return Vec::new();
    }
    (before.place + 1..)
        .zip(steps)
        .map(|(place, step)| {
            let view = JobView {
                step: step.word().into(),
                place,
                ..now.clone()
            };
            stage(&view)
        })
        .collect()
}

/// Whether the job is where this list has its step.
fn is_at(list: &[Step], view: &JobView) -> bool {
    let place = usize::try_from(view.place).unwrap_or_default();
    match view.step() {
        Some(step) => list.get(place.wrapping_sub(1)) == Some(&step),
        None => view.step.is_empty(),
    }
}

/// How far it is within that: ` (512 MiB of 1.9 GiB, 12031 of 40000 files), about 12 s left`; may be empty.
pub fn amount(view: &JobView) -> String {
    let of = |done: u64, total: u64, text: &dyn Fn(u64) -> String| match (done, total) {
        (0, _) => None,
        (done, total) if total >= done => Some(format!("{} of {}", text(done), text(total))),
        (done, _) => Some(text(done)),
    };
    let data = of(view.bytes_done, view.bytes_total, &bytes);
    let files = of(view.files_done, view.files_total, &|count| count.to_string())
        .map(|files| format!("{files} files"));
    let parts: Vec<String> = data.into_iter().chain(files).collect();
    let mut text = if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    };
    if !matches!(view.remaining_usec, 0 | UNKNOWN) && view.state == "running" {
        let left = span(Duration::from_micros(view.remaining_usec));
        let _ = write!(text, ", about {left} left");
    }
    text
}

/// How it ended: what became of it, what is kept, what can be done next.
pub fn end(view: &JobView) -> String {
    let mut text = clean(&view.sentence);
    text.push('\n');
    if !view.reason.is_empty() && !view.sentence.contains(&view.reason) {
        let _ = writeln!(text, "  why: {}", clean(&view.reason));
    }
    if !view.snapshot.is_empty() {
        let _ = writeln!(
            text,
            "  snapshot: {} (nixarr-migrate snapshots {})",
            clean(&view.snapshot),
            view.service
        );
    }
    if !view.remedy.is_empty() {
        let _ = writeln!(text, "  {}", clean(&view.remedy));
    }
    text
}

/// What to do about a job that goes on by itself.
pub fn detached(view: &JobView) -> String {
    let mut text = format!(
        "it goes on by itself (job {}); how far it is, and what it writes:\n  nixarr-migrate status\n",
        view.number
    );
    let log = match (view.invocation.as_str(), view.unit.as_str()) {
        ("", "") => return text,
        ("", unit) => format!("-u {unit}"),
        (id, _) => format!("_SYSTEMD_INVOCATION_ID={id}"),
    };
    let _ = writeln!(text, "  journalctl -f {log}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: &str, state: &str) -> JobView {
        JobView {
            number: 3,
            service: "sonarr".into(),
            verb: "migrate".into(),
            unit: "dagger-migrate@sonarr.service".into(),
            state: state.into(),
            step: step.into(),
            place: 2,
            steps: 8,
            remaining_usec: UNKNOWN,
            ..JobView::default()
        }
    }

    #[test]
    fn where_it_is_and_how_far() {
        let mut view = at("snapshot", "running");
        assert_eq!(
            stage(&view),
            "[2/8] snapshot: the data is copied to a snapshot, while the service runs"
        );
        assert_eq!(amount(&view), "");
        view.bytes_done = 512 << 20;
        view.bytes_total = 2 << 30;
        view.files_done = 12;
        view.remaining_usec = 12_000_000;
        assert_eq!(amount(&view), " (512 MiB of 2 GiB, 12 files), about 12 s left");
        assert_eq!(
            stage(&at("flip", "undoing")),
            "[undo] flip: it changes hands again"
        );
        assert_eq!(stage(&at("a\x1b[2J", "running")), "[2/8] a\u{fffd}[2J");
        assert_eq!(
            stage(&at("", "running")),
            "the job ends",
            "no number has two lines"
        );
        let queued = JobView {
            place: 0,
            ..at("", "queued")
        };
        assert_eq!(stage(&queued), "the job is queued");
    }

    #[test]
    fn what_was_over_before_anybody_looked_is_told_too() {
        let view = |step: &str, place, steps| JobView {
            place,
            steps,
            ..at(step, "running")
        };
        assert_eq!(
            between(&view("refresh", 4, 9), &view("start", 8, 9)),
            [
                "[5/9] check: the databases are looked through",
                "[6/9] adjust: settings are changed",
                "[7/9] flip: it changes hands",
            ]
        );
        assert_eq!(
            between(&view("refresh", 4, 8), &view("start", 7, 8)),
            [
                "[5/8] check: the databases are looked through",
                "[6/8] flip: it changes hands",
            ],
            "nothing was there to adjust"
        );
        let none: [String; 0] = [];
        assert_eq!(between(&view("refresh", 4, 9), &view("check", 5, 9)), none);
        assert_eq!(between(&view("", 0, 9), &view("pull", 1, 9)), none);
        let last =
            "[9/9] probation: it has to be well for a while, with everything in it that was there before";
        assert_eq!(between(&view("start", 8, 9), &view("", 9, 9)), [last]);
        assert_eq!(between(&view("probation", 9, 9), &view("", 9, 9)), none);
        // Of another version, or of the whole suite, whose steps are services.
        assert_eq!(between(&view("refresh", 3, 8), &view("start", 7, 8)), none);
        // The way back with the older snapshot and nothing to adjust, or with the data as it is, and settings.
        let back = |step: &str, place| JobView {
            verb: "rollback".into(),
            ..view(step, place, 8)
        };
        assert_eq!(between(&back("refresh", 3), &back("flip", 6)), none);
        assert_eq!(
            between(&back("check", 5), &back("start", 7)),
            ["[6/8] flip: it changes hands"],
        );
        assert_eq!(between(&view("sonarr", 1, 9), &view("bazarr", 4, 9)), none);
        for before in [
            JobView::default(),
            JobView {
                place: 0,
                ..at("", "queued")
            },
        ] {
            assert_eq!(
                between(&before, &view("snapshot", 2, 9)),
                ["[1/9] pull: the image is fetched"],
                "the first look came late"
            );
        }
        let back = JobView {
            state: "undoing".into(),
            ..view("start", 8, 9)
        };
        assert_eq!(between(&view("refresh", 4, 9), &back), none);
    }

    #[test]
    fn the_end_names_what_is_kept_and_the_way_back() {
        let view = JobView {
            sentence: "sonarr runs in its container now".into(),
            snapshot: "20261124-migrate".into(),
            remedy: "the way back: nixarr-migrate rollback sonarr".into(),
            ..at("", "done")
        };
        assert_eq!(
            end(&view),
            "\
sonarr runs in its container now
  snapshot: 20261124-migrate (nixarr-migrate snapshots sonarr)
  the way back: nixarr-migrate rollback sonarr
"
        );
    }

    #[test]
    fn one_that_goes_on_can_be_found_again() {
        let mut view = at("stop", "running");
        assert!(detached(&view).contains("journalctl -f -u dagger-migrate@sonarr.service"));
        view.invocation = "ab12".into();
        assert!(detached(&view).contains("journalctl -f _SYSTEMD_INVOCATION_ID=ab12"));
    }
}

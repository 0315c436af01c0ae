//! `why`: the first cause of what is wrong, in one sentence, and what it rests on.

use dagger_agent::cli::WhyArgs;
use dagger_agent::domain::health::Health;
use dagger_suite::names::{Root, exit};
use serde::Serialize;

use crate::bus::Bus;
use crate::error::Error;
use crate::report::Report;
use crate::screen::{Screen, print, print_json, warn};
use crate::show::{NOTHING, tone};
use crate::suite::{Suite, known, no_such};
use crate::text::{clean, paint};

/// One service, explained. Field names are those of the JSON form.
#[derive(Debug, Serialize)]
struct Answer {
    name: String,
    health: Health,
    /// The cause in one sentence.
    sentence: String,
    /// It was seen, not concluded.
    certain: bool,
    /// What it rests on, line by line.
    evidence: Vec<String>,
}

/// `daggerctl why`.
pub async fn why(args: &WhyArgs, screen: Screen) -> Result<u8, Error> {
    let bus = Bus::connect().await?;
    let report = bus.report().await?;
    let all = args.services.is_empty();
    let words: Vec<&str> = if all {
        let ill = report
            .services
            .iter()
            .filter(|service| service.view.health != Health::Healthy);
        // What was taken out on purpose is nobody's trouble.
        let spoilt = !report.configuration_errors.is_empty();
        let unwatched = report.unwatched.iter().filter(|_| spoilt);
        ill.map(|service| service.view.name.as_str())
            .chain(unwatched.map(String::as_str))
            .collect()
    } else {
        args.services.iter().map(String::as_str).collect()
    };
    let mut answers = Vec::new();
    for word in words {
        answers.push(answer(&bus, &report, word).await?);
    }
    let mistakes: &[String] = if all { &report.configuration_errors } else { &[] };
    let good = mistakes.is_empty() && answers.iter().all(|answer| answer.health == Health::Healthy);
    if args.json {
        print_json(&answers)?;
    } else if report.services.is_empty() && answers.is_empty() && mistakes.is_empty() {
        print(NOTHING)?;
    } else if good && all {
        print("every service is healthy\n")?;
    } else {
        print(&text(&answers, screen.colour))?;
    }
    for mistake in mistakes {
        warn("daggerctl", &format!("configuration: {}", clean(mistake)));
    }
    Ok(if good { exit::GOOD } else { exit::NOT_HEALTHY })
}

async fn answer(bus: &Bus, report: &Report, word: &str) -> Result<Answer, Error> {
    let Some(service) = report.services.iter().find(|service| service.view.name == word) else {
        return broken(report, word);
    };
    let (sentence, certain, evidence) = bus.why(&known(word, report.names())?).await?;
    Ok(Answer {
        name: word.to_owned(),
        health: service.view.health,
        sentence,
        certain,
        evidence,
    })
}

/// A service that the agent does not have: its configuration has a mistake, or there is none.
fn broken(report: &Report, word: &str) -> Result<Answer, Error> {
    let suite = Suite::read(Root::from_env());
    let configured = suite
        .services()
        .iter()
        .find(|service| service.name.as_str() == word);
    let runs = report.unwatched.iter().any(|name| name == word);
    let mistakes = match configured.map(|service| service.mistakes.as_slice()) {
        Some([]) => {
            return Err(Error::Failed(format!(
                "{word} is in the configuration, and the agent has not read that yet: systemctl daemon-reload, then again"
            )));
        }
        Some(mistakes) => mistakes,
        None if runs => report.configuration_errors.as_slice(),
        None => return Err(no_such(word, report.names())),
    };
    Ok(Answer {
        name: word.to_owned(),
        health: if runs { Health::Unknown } else { Health::Failed },
        sentence: unusable(word, mistakes.first().map(String::as_str), runs),
        certain: true,
        evidence: mistakes.to_vec(),
    })
}

/// What a service can and cannot do whose configuration has this mistake, or that has none.
fn unusable(word: &str, mistake: Option<&str>, runs: bool) -> String {
    match (mistake, runs) {
        (Some(mistake), true) => format!(
            "{word} runs, but its configuration cannot be read: {mistake}; it cannot be started again until that is mended"
        ),
        (Some(mistake), false) => format!("{word} cannot start: {mistake}"),
        (None, _) => format!(
            "{word} runs, but it is turned off or not in the configuration: it is not watched, and cannot be started again"
        ),
    }
}

/// The sentences, each once, with what they rest on below.
fn text(answers: &[Answer], colour: bool) -> String {
    let mut told: Vec<(&str, Health, Vec<&str>)> = Vec::new();
    for answer in answers {
        let lines = answer.evidence.iter().map(String::as_str);
        match told
            .iter_mut()
            .find(|(sentence, ..)| *sentence == answer.sentence)
        {
            Some((_, health, all)) => {
                *health = Health::worst([*health, answer.health]);
                for line in lines {
                    if !all.contains(&line) {
                        all.push(line);
                    }
                }
            }
            None => told.push((&answer.sentence, answer.health, lines.collect())),
        }
    }
    let mut text = String::new();
    for (sentence, health, lines) in told {
        text.push_str(&paint(&clean(sentence), tone(health), colour));
        text.push('\n');
        for line in lines {
            text.extend(["  ", &clean(line), "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_behind_a_mistake_is_not_said_to_be_down() {
        let mistake = Some("dagger.toml:3:1: unknown key `prot`");
        assert_eq!(
            unusable("sonarr", mistake, true),
            "sonarr runs, but its configuration cannot be read: dagger.toml:3:1: unknown key `prot`; it cannot be started again until that is mended"
        );
        assert!(unusable("sonarr", mistake, false).starts_with("sonarr cannot start: dagger.toml"));
        assert!(unusable("sonarr", None, true).contains("turned off or not in the configuration"));
    }

    #[test]
    fn one_cause_of_many_is_shown_once() {
        let answer = |name: &str, own: &str| Answer {
            name: name.into(),
            health: Health::Unhealthy,
            sentence: "/fun is not mounted; radarr and sonarr wait for it".into(),
            certain: true,
            evidence: vec!["/fun is not mounted".into(), own.into()],
        };
        let answers = [answer("radarr", "radarr: x"), answer("sonarr", "sonarr: \x1by")];
        assert_eq!(
            text(&answers, false),
            "\
/fun is not mounted; radarr and sonarr wait for it
  /fun is not mounted
  radarr: x
  sonarr: \u{fffd}y
"
        );
        assert!(text(&answers, true).starts_with("\x1b[31m/fun"));
    }
}

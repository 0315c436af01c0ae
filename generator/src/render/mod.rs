//! The suite as files: units, drop-ins and links. Pure: the same suite gives the same bytes.
//!
//! What is written, all of it in systemd's *normal* generator directory, so that a unit which the administrator puts
//! below /etc wins over ours:
//!
//! | path | when |
//! |---|---|
//! | `dagger-<service>.service` | each service; one that cannot run gets a unit that refuses to start and says why |
//! | `dagger-front@<service>.{socket,service}` | each service with a `front-port`: leads to it in its namespace |
//! | `dagger-pull@<service>.service` | each service that can run: fetches the image, apart from the service's own start |
//! | `<native>.service.d/50-dagger-owner.conf` | each native unit that may own the data of a service, also of one that does not run |
//! | `dagger-config-error.service` | a configuration file cannot be used as a whole |
//! | `dagger-<service>.service`, not linked | a service that runs and is turned off or taken out: it knows how to stop, and starts no more |
//! | `dagger.target.wants/*`, `multi-user.target.wants/dagger.target` | the links that start them |

mod lines;
mod command;
mod service;
mod side;

use std::path::Path;

use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{Broken, Service, Suite};
use crate::names;
use crate::unit::Unfit;

/// How the first line of every file of ours goes on after `# `: what a later run may replace or remove.
pub(crate) const HEADER: &str = "Written by dagger-generator from ";

/// Name of the drop-in on a native unit.
pub(crate) const OWNER_DROP_IN: &str = "50-dagger-owner.conf";

/// One thing to write below the generator directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Where, relative to the directory: one name, or a directory and a name.
    pub path: String,
    /// What.
    pub content: Content,
}

/// What an [`Output`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file with this text.
    File(String),
    /// A symbolic link to this target.
    Link(String),
}

impl Output {
    fn file(path: String, text: String) -> Self {
        Self {
            path,
            content: Content::File(text),
        }
    }

    fn link(path: String, target: String) -> Self {
        Self {
            path,
            content: Content::Link(target),
        }
    }
}

/// Where the suite's own programs and static units are installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// `dagger-gate`, an absolute path.
    pub gate: String,
    /// `dagger.target`, an absolute path.
    pub target: String,
}

impl Programs {
    /// Below an installation prefix: `/usr`, `/usr/local`, a store path.
    pub fn below(prefix: &str) -> Self {
        let prefix = prefix.trim_end_matches('/');
        Self {
            gate: format!("{prefix}/libexec/dagger/dagger-gate"),
            target: format!("{prefix}/lib/systemd/system/{}", names::TARGET),
        }
    }

    /// Found by the generator's own place, `<prefix>/lib/systemd/system-generators/<name>`; `/usr` when it lies elsewhere
    /// (a build directory).
    ///
    /// ```
    /// use dagger_suite::render::Programs;
    /// let found = Programs::beside("/usr/local/lib/systemd/system-generators/dagger-generator".as_ref());
    /// assert_eq!(found.gate, "/usr/local/libexec/dagger/dagger-gate");
    /// assert_eq!(Programs::beside("/home/me/target/debug/dagger-generator".as_ref()), Programs::below("/usr"));
    /// ```
    pub fn beside(generator: &Path) -> Self {
        let prefix = generator
            .parent()
            .and_then(|dir| dir.to_str())
            .and_then(|dir| dir.strip_suffix("/lib/systemd/system-generators"))
            // With a merged /usr, /lib is a link into it: the programs are below /usr then.
            .filter(|prefix| !prefix.is_empty());
        Self::below(prefix.unwrap_or("/usr"))
    }
}

/// All that the suite becomes, as one list: see [`Rendering`].
pub fn render<'a>(
    suite: &Suite,
    broken: &[Broken],
    file_errors: impl IntoIterator<Item = &'a Diagnostic>,
    programs: &Programs,
) -> Vec<Output> {
    Rendering::new(suite, broken, file_errors, programs).all()
}

/// A suite that is about to become units, piece by piece or as a whole.
pub struct Rendering<'a> {
    suite: &'a Suite,
    broken: &'a [Broken],
    left: &'a [Broken],
    errors: Vec<String>,
    programs: &'a Programs,
}

impl<'a> Rendering<'a> {
    /// `file_errors` are the diagnostics that belong to no service; those that are errors become the unit that says so.
    pub fn new<'d>(
        suite: &'a Suite,
        broken: &'a [Broken],
        file_errors: impl IntoIterator<Item = &'d Diagnostic>,
        programs: &'a Programs,
    ) -> Self {
        let errors = file_errors
            .into_iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .map(Diagnostic::one_line)
            .collect();
        Self {
            suite,
            broken,
            left: &[],
            errors,
            programs,
        }
    }

    /// The same with services that run and have no place in the suite: see [`crate::left`].
    #[must_use]
    pub fn with_left(self, left: &'a [Broken]) -> Self {
        Self { left, ..self }
    }

    /// Everything. Nothing in, nothing out: without any service and any mistake not even the target is linked.
    pub fn all(&self) -> Vec<Output> {
        let mut outputs = self.of(&self.suite.services);
        outputs.extend(self.rest());
        outputs
    }

    /// The services that can run.
    pub fn services(&self) -> &'a [Service] {
        &self.suite.services
    }

    /// What these services become.
    pub fn of(&self, services: &[Service]) -> Vec<Output> {
        let mut outputs = Vec::with_capacity(4 * services.len());
        for service in services {
            // First of all, should the disk be full. Also on one that is not there (yet): without a marker it changes nothing,
            // and a unit may come from where nobody looks for it.
            // One that is installed later comes with a daemon-reload of its own.
            for native in service.native.iter().filter(|unit| unit.present || unit.named) {
                outputs.push(side::owner_drop_in(&service.name, &native.name, &service.source));
            }
            match service::unit(self.suite, service, self.programs) {
                Ok(text) => {
                    outputs.push(Output::file(service.name.unit(), text));
                    outputs.push(side::pull(self.suite, service, self.programs));
                    outputs.extend(side::front(service));
                }
                Err(unfit) => {
                    outputs.push(side::refuse_service(
                        self.suite,
                        &unfit_service(service, unfit),
                        self.programs,
                    ));
                }
            }
            // A shadow runs while somebody looks at it, and is no part of the suite.
            if service.shadow_of.is_none() {
                outputs.push(wanted(&service.name.unit()));
            }
        }
        outputs
    }

    /// What everything else becomes: mistakes, and the target's own link.
    pub fn rest(&self) -> Vec<Output> {
        let mut outputs = Vec::with_capacity(2 * self.broken.len() + 3);
        for broken in self.broken {
            outputs.push(side::refuse_service(self.suite, broken, self.programs));
            outputs.push(wanted(&broken.name.unit()));
        }
        if !self.errors.is_empty() {
            outputs.push(side::refuse_files(
                &self.suite.source,
                &self.errors,
                self.programs,
            ));
            outputs.push(wanted(names::CONFIG_ERROR_UNIT));
        }
        if self.suite.start_at_boot && !(outputs.is_empty() && self.suite.services.is_empty()) {
            let link = format!("multi-user.target.wants/{}", names::TARGET);
            outputs.push(Output::link(link, self.programs.target.clone()));
        }
        // After the links: what is left over is no part of the suite, and starts nothing.
        let left = self.left.iter();
        outputs.extend(left.map(|left| side::left_service(self.suite, left, self.programs)));
        for guard in &self.suite.guards {
            outputs.push(side::owner_drop_in(
                &guard.service,
                &guard.unit,
                &self.suite.source,
            ));
        }
        outputs
    }
}

/// A service whose values no unit file can carry.
fn unfit_service(service: &Service, why: Unfit) -> Broken {
    Broken {
        name: service.name.clone(),
        messages: vec![format!(
            "{}: [services.{}]: {}",
            service.source,
            service.name,
            why.sentence()
        )],
        source: service.source.clone(),
    }
}

/// The link that makes a unit part of the suite.
fn wanted(unit: &str) -> Output {
    let mut path = String::with_capacity(names::TARGET.len() + unit.len() + 7);
    path.push_str(names::TARGET);
    path.push_str(".wants/");
    path.push_str(unit);
    let mut target = String::with_capacity(unit.len() + 3);
    target.push_str("../");
    target.push_str(unit);
    Output::link(path, target)
}

#[cfg(test)]
mod tests;

//! A job is followed until it is over, or until nobody wants to wait any more.

use dagger_agent::adapter::bus::JobView;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::person::{Wish, interrupted};
use super::show;
use super::way::Running;
use crate::error::Error;
use crate::screen::{Screen, print, warn};

/// Erases the line that the cursor is in (ECMA-48).
const ERASE: &str = "\r\x1b[K";

/// How it came to its end.
pub enum End {
    /// The job is over.
    Over(Box<JobView>),
    /// It goes on, and nobody waits for it.
    Detached(Box<JobView>),
}

/// Follows a job. On a terminal its last line lives; in a pipe there is a line for each thing that happens.
pub async fn follow(running: &mut Running, screen: Screen, quiet: bool) -> Result<End, Error> {
    let mut display = Display {
        screen,
        quiet,
        stage: String::new(),
        live: String::new(),
    };
    let mut stops =
        signal(SignalKind::interrupt()).map_err(|error| Error::Failed(format!("no signals: {error}")))?;
    let mut last = JobView::default();
    loop {
        tokio::select! {
            view = running.next() => {
                let view = view?;
                display.passed(&show::between(&last, &view))?;
                last = view;
                display.show(&last)?;
                if last.is_over() {
                    display.close()?;
                    return Ok(End::Over(Box::new(last)));
                }
            }
            _ = stops.recv() => {
                display.close()?;
                match interrupted(again(&mut stops)).await {
                    Wish::Detach => return Ok(End::Detached(Box::new(last))),
                    Wish::Cancel => match running.cancel().await {
                        Ok(()) => warn("nixarr-migrate", "it was asked to stop, and undoes what it has done"),
                        // It may just have ended: the next look shows that.
                        Err(error) => warn("nixarr-migrate", &error.to_string()),
                    },
                    Wish::GoOn => {}
                }
            }
        }
    }
}

async fn again(stops: &mut Signal) {
    stops.recv().await;
}

struct Display {
    screen: Screen,
    quiet: bool,
    /// What was last said to be going on.
    stage: String,
    /// What stands in the line that lives.
    live: String,
}

impl Display {
    fn show(&mut self, view: &JobView) -> Result<(), Error> {
        if self.quiet || view.is_over() {
            return Ok(());
        }
        let stage = show::stage(view);
        let news = stage != self.stage;
        if news && !view.reason.is_empty() && !self.stage.starts_with("[undo]") {
            self.close()?;
            print(&format!("it goes back: {}\n", crate::text::clean(&view.reason)))?;
        }
        if self.screen.terminal {
            if news {
                // The stage before stays, without how far it was.
                self.close()?;
            }
            let live = format!("{stage}{}", show::amount(view));
            if live != self.live {
                print(&format!("{ERASE}{live}"))?;
                self.live = live;
            }
        } else if news {
            print(&format!("{stage}\n"))?;
        }
        self.stage = stage;
        Ok(())
    }

    /// Says what was over before it could be shown.
    fn passed(&mut self, stages: &[String]) -> Result<(), Error> {
        if self.quiet {
            return Ok(());
        }
        for stage in stages {
            self.close()?;
            print(&format!("{stage}\n"))?;
        }
        Ok(())
    }

    /// Ends the line that lives.
    fn close(&mut self) -> Result<(), Error> {
        if !self.live.is_empty() {
            print(&format!("{ERASE}{}\n", self.stage))?;
            self.live.clear();
        }
        Ok(())
    }
}

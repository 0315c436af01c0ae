//! What the kernel looks at beside the rule of two sockets, when there are three and more.
//!
//! It saves itself work for groups of SO_REUSEPORT: who is of one kind with a member is let in without a look at the rest.
//! On TCP that member is the one that came last (`sk_reuseport_match`, and `inet_csk_update_fastreuse`, which remembers
//! it); on UDP it is the first that is met in the list of the port's sockets (`udp_lib_lport_inuse`).

use core::net::{IpAddr, Ipv4Addr};
use dagger_agent::domain::ports::bind::{Answer, Bind, Held, excludes};

/// The memory of one TCP port.
#[derive(Default)]
pub struct Memory(Option<Bind>);

impl Memory {
    /// Whether this one is let in without a look.
    pub fn knows(&self, wanted: &Bind) -> bool {
        self.0.as_ref().is_some_and(|last| {
            wanted.options.reuse_port && wanted.place.uid == last.place.uid && covers(last, wanted)
        })
    }

    /// A bind(2) or listen(2) has succeeded.
    pub fn note(&mut self, bind: &Bind) {
        if !bind.options.reuse_port {
            self.0 = None;
        } else if !self.knows(bind) {
            self.0 = Some(*bind);
        }
    }

    /// Nobody has the port any more.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}

/// Whether the address of the one is that of the other, or a wildcard above it, as the kernel takes it here: interfaces
/// do not count, and two wildcards are one.
fn covers(last: &Bind, wanted: &Bind) -> bool {
    let (mine, other) = (last.place.address, wanted.place.address);
    let v4_of_other = other.to_canonical().is_ipv4();
    let own_v6 = !v4_of_other && !other.is_unspecified();
    match mine {
        IpAddr::V4(mine) => {
            let face = match other.to_canonical() {
                IpAddr::V4(other) => other,
                IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
            };
            !own_v6 && !wanted.options.v6only && (mine.is_unspecified() || mine == face)
        }
        IpAddr::V6(v6) if v6.is_unspecified() => !(last.options.v6only && v4_of_other),
        IpAddr::V6(_) => {
            let (mine, other) = (mine.to_canonical(), other.to_canonical());
            mine == other || (mine.is_ipv4() && mine.is_unspecified() && other.is_ipv4())
        }
    }
}

/// Whether the two are of one group, and nothing but that keeps them from excluding each other.
pub fn fellows(wanted: &Bind, held: &Held) -> bool {
    let mut alone = *held;
    alone.options.reuse_port = Some(false);
    excludes(wanted, held) == Answer::Allows && excludes(wanted, &alone) == Answer::Excludes
}

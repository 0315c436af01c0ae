//! Errors as callers see them: each has a name of its own under `org.nixarr.Dagger1.Error`.

/// An error of one of our methods. The text is a sentence for people, and says what to do where something can be done.
#[derive(Debug, zbus::DBusError, PartialEq)]
#[zbus(prefix = "org.nixarr.Dagger1.Error")]
pub enum BusError {
    /// The connection itself failed; the name is D-Bus's own.
    #[zbus(error)]
    ZBus(zbus::Error),
    /// The configuration knows no such service.
    NoSuchService(String),
    /// This caller asks too often.
    Throttled(String),
    /// The configuration was read and has mistakes; what is right in it is in force.
    ConfigurationInvalid(String),
    /// polkit does not allow it.
    NotAuthorized(String),
    /// polkit wants a password, and the caller did not allow to ask for it.
    InteractiveAuthorizationRequired(String),
    /// A job is at work on this service already; the text says which.
    Busy(String),
    /// There is nothing of the kind: a job that is over cannot be cancelled.
    NothingToDo(String),
    /// An argument is out of bounds.
    InvalidArgument(String),
    /// Anything else.
    Failed(String),
}

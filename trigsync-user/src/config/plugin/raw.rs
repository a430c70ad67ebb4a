//! A plugin as written.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{ExecInput, Separator};
use crate::config::raw::At;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::config) struct RawPlugin {
    /// The section itself.
    pub(in crate::config) section: At<()>,
    pub(in crate::config) name: At<String>,
    pub(in crate::config) after: Option<At<String>>,
    /// gitignore lines.
    pub(in crate::config) only: Vec<At<String>>,
    pub(in crate::config) exclude: Vec<At<String>>,
    /// `match`.
    pub(in crate::config) matching: Option<At<String>>,
    pub(in crate::config) whole: Option<At<bool>>,
    pub(in crate::config) absolute: Option<At<bool>>,
    pub(in crate::config) batch: Option<At<u64>>,
    pub(in crate::config) rate: Option<At<NonZeroU32>>,
    pub(in crate::config) timeout: Option<At<Duration>>,
    pub(in crate::config) attempts: Option<At<NonZeroU32>>,
    pub(in crate::config) memory: Option<At<u64>>,
    pub(in crate::config) action: RawAction,
}

/// `kind`, and the keys that only this kind has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawAction {
    Exec { command: Vec<At<String>>, input: Option<At<ExecInput>> },
    Tcp { to: At<String>, separator: Option<At<Separator>> },
    Http { request: RawRequest },
    Purge { base: At<String>, replace: Option<At<String>>, request: RawRequest },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::config) struct RawRequest {
    pub(in crate::config) method: Option<At<String>>,
    pub(in crate::config) url: Option<At<String>>,
    /// Name and value.
    pub(in crate::config) headers: Vec<At<(String, String)>>,
    pub(in crate::config) body: Option<At<String>>,
    pub(in crate::config) secret_file: Option<At<PathBuf>>,
}

impl RawPlugin {
    /// Nothing but what must be there.
    pub(in crate::config) fn new(section: At<()>, name: At<String>, action: RawAction) -> Self {
        Self {
            section,
            name,
            after: None,
            only: Vec::new(),
            exclude: Vec::new(),
            matching: None,
            whole: None,
            absolute: None,
            batch: None,
            rate: None,
            timeout: None,
            attempts: None,
            memory: None,
            action,
        }
    }

    /// The file that holds its secret.
    pub(in crate::config) fn secret_file_mut(&mut self) -> Option<&mut At<PathBuf>> {
        match &mut self.action {
            RawAction::Http { request } | RawAction::Purge { request, .. } => request.secret_file.as_mut(),
            RawAction::Exec { .. } | RawAction::Tcp { .. } => None,
        }
    }
}

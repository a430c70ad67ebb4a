//! Losses made on purpose, so that `cargo xtask chaos --sabotage` can show that it finds them.
//!
//! Only in builds with the feature `sabotage`; everywhere else the questions are a constant `false`, and a release refuses the feature.

#[cfg(all(feature = "sabotage", not(debug_assertions)))]
compile_error!("the feature `sabotage` makes a daemon that loses changes; it is for `cargo xtask chaos` alone, never for a release");

/// Whether `TRIGSYNC_SABOTAGE` asks for this loss.
pub(crate) fn asks_for(kind: &str) -> bool {
    cfg!(feature = "sabotage") && std::env::var_os("TRIGSYNC_SABOTAGE").is_some_and(|asked| asked == kind)
}

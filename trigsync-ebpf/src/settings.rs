//! The settings as globals, one symbol each; the daemon overwrites them before loading.

macro_rules! globals {
    ($($(#[$doc:meta])* $field:ident = $name:literal, $global:ident;)*) => {
        mod storage {
            $($(#[$doc])* #[unsafe(no_mangle)] pub(super) static $global: u64 = trigsync_common::settings::ABSENT;)*
        }

        $(
            $(#[$doc])*
            #[inline(always)]
            pub fn $field() -> u64 {
                // SAFETY: a static of our own. Volatile, because its value at run time is not the one that is compiled in.
                unsafe { core::ptr::read_volatile(&raw const storage::$global) }
            }
        )*
    };
}

trigsync_common::for_each_setting!(globals);

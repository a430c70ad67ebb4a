//! The settings as globals, one symbol each; the daemon overwrites them before loading. Those that are offsets of fields stand in the
//! instructions, too: see [`Field`].

use trigsync_common::settings::FIRST_PLACE;

/// A field of one of the kernel's structures.
///
/// A load through a [`Typed`](crate::read::Typed) pointer has the field's offset in the instruction, which is all that the processor has to do then.
/// The compiler does not know it: it puts a number there that no other load has, and the daemon writes the offset over it.
pub trait Field {
    /// The number that stands for the offset.
    const PLACE: i32;

    /// The offset itself.
    fn offset() -> u64;
}

macro_rules! globals {
    ($($(#[$doc:meta])* $field:ident = $name:literal, $global:ident;)*) => {
        mod storage {
            $($(#[$doc])* #[unsafe(no_mangle)] pub(super) static $global: u64 = trigsync_common::settings::ABSENT;)*
        }

        #[allow(dead_code, non_camel_case_types, reason = "numbers the settings, by their names")]
        enum Number { $($field),* }

        $(
            $(#[$doc])*
            #[inline(always)]
            pub fn $field() -> u64 {
                // SAFETY: a static of our own. Volatile, because its value at run time is not the one that is compiled in.
                unsafe { core::ptr::read_volatile(&raw const storage::$global) }
            }

            $(#[$doc])*
            #[allow(dead_code, non_camel_case_types, reason = "the name of the setting, not all of which are fields")]
            pub enum $field {}

            impl Field for $field {
                const PLACE: i32 = FIRST_PLACE as i32 + Number::$field as i32;

                #[inline(always)]
                fn offset() -> u64 {
                    $field()
                }
            }
        )*
    };
}

trigsync_common::for_each_setting!(globals);

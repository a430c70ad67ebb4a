//! From type information to [`Settings`]: every field and every argument that the programs read, or the reason why there is none.

use trigsync_common::settings::{ABSENT, Settings};

use super::{
    Lack, LayoutError, Severity,
    capabilities::Capabilities,
    functions::Functions,
    hooks::{Answer, Form, HOOKS, Hook, Need, Setting},
    table,
    types::{Absence, Returns, Shape, Signature, Types},
};

/// `FMODE_CREATED`, the same since it was brought in: <https://git.kernel.org/linus/73a09dd94377>.
const MODE_CREATED: u64 = 0x10_0000;

/// Arguments that registers hold, which is all that a program can read at a trampoline or a probe.
const MOST_ARGUMENTS: usize = 6;

/// One field: where its offset goes, its names (the first that is found counts), what it must be, and what follows where it is missing.
struct Field {
    setting: Setting,
    paths: &'static [&'static str],
    shape: Shape,
    need: Need,
}

const fn essential(setting: Setting, paths: &'static [&'static str], shape: Shape) -> Field {
    Field { setting, paths, shape, need: Need::Required }
}

const fn optional(setting: Setting, paths: &'static [&'static str], shape: Shape, costs: &'static str) -> Field {
    Field { setting, paths, shape, need: Need::Costs(costs) }
}

const MAPPED: &str = "a store through a shared mapping is not seen until the file is closed";
const ASYNCHRONOUS: &str = "a write that ends later than its submission (libaio, io_uring) is not seen until the file is closed";
const URING: &str = "a write through io_uring is not seen until the file is closed";

static FIELDS: [Field; 28] = [
    essential(|settings| &mut settings.dentry_parent, &["dentry.d_parent"], Shape::PointerTo("dentry")),
    essential(|settings| &mut settings.dentry_name, &["dentry.d_name"], Shape::Struct("qstr")),
    essential(|settings| &mut settings.dentry_inode, &["dentry.d_inode"], Shape::PointerTo("inode")),
    essential(|settings| &mut settings.dentry_sb, &["dentry.d_sb"], Shape::PointerTo("super_block")),
    essential(|settings| &mut settings.dentry_hashed, &["dentry.d_hash.pprev"], Shape::Pointer),
    essential(|settings| &mut settings.dentry_alias, &["dentry.d_u.d_alias", "dentry.d_alias"], Shape::Struct("hlist_node")),
    essential(|settings| &mut settings.qstr_length, &["qstr.len"], Shape::Number(4)),
    essential(|settings| &mut settings.qstr_name, &["qstr.name"], Shape::Pointer),
    essential(|settings| &mut settings.qstr_hash, &["qstr.hash"], Shape::Number(4)),
    essential(|settings| &mut settings.file_dentry, &["file.f_path.dentry"], Shape::PointerTo("dentry")),
    essential(|settings| &mut settings.file_inode, &["file.f_inode"], Shape::PointerTo("inode")),
    essential(|settings| &mut settings.file_mode, &["file.f_mode"], Shape::Number(4)),
    essential(|settings| &mut settings.inode_mode, &["inode.i_mode"], Shape::Number(2)),
    essential(|settings| &mut settings.inode_number, &["inode.i_ino"], Shape::Number(8)),
    essential(|settings| &mut settings.inode_sb, &["inode.i_sb"], Shape::PointerTo("super_block")),
    essential(|settings| &mut settings.inode_generation, &["inode.i_generation"], Shape::Number(4)),
    essential(|settings| &mut settings.inode_aliases, &["inode.i_dentry.first"], Shape::PointerTo("hlist_node")),
    essential(|settings| &mut settings.sb_device, &["super_block.s_dev"], Shape::Number(4)),
    essential(|settings| &mut settings.task_leader, &["task_struct.group_leader"], Shape::PointerTo("task_struct")),
    essential(|settings| &mut settings.task_parent, &["task_struct.real_parent"], Shape::PointerTo("task_struct")),
    essential(|settings| &mut settings.task_process, &["task_struct.tgid"], Shape::Number(4)),
    essential(|settings| &mut settings.task_started, &["task_struct.start_time"], Shape::Number(8)),
    essential(|settings| &mut settings.iattr_valid, &["iattr.ia_valid"], Shape::Number(4)),
    optional(|settings| &mut settings.file_mapping, &["file.f_mapping"], Shape::PointerTo("address_space"), MAPPED),
    optional(|settings| &mut settings.mapping_writable, &["address_space.i_mmap_writable.counter"], Shape::Number(4), MAPPED),
    optional(|settings| &mut settings.kiocb_file, &["kiocb.ki_filp"], Shape::PointerTo("file"), ASYNCHRONOUS),
    optional(|settings| &mut settings.kiocb_flags, &["kiocb.ki_flags"], Shape::Number(4), ASYNCHRONOUS),
    optional(|settings| &mut settings.request_file, &["io_kiocb.file"], Shape::PointerTo("file"), URING),
];

/// Read only where `vfs_rename` takes one argument, and then essential.
static RENAME_FIELDS: [Field; 2] = [
    essential(|settings| &mut settings.rename_old, &["renamedata.old_dentry"], Shape::PointerTo("dentry")),
    essential(|settings| &mut settings.rename_new, &["renamedata.new_dentry"], Shape::PointerTo("dentry")),
];

/// The settings of a kernel, and what it lacks. `release` is that of the kernel, as `uname -r` tells it.
///
/// What every program needs is there in the settings that are returned; what is optional is [`ABSENT`] as a whole group where a part of it
/// is missing, and named among the lacks.
pub fn resolve(
    release: &str,
    types: &Types,
    functions: &Functions,
    capabilities: Capabilities,
) -> Result<(Settings, Vec<Lack>), LayoutError> {
    let mut resolver = Resolver { release, types, functions, capabilities, settings: Settings::UNKNOWN, lacks: Vec::new() };
    resolver.fields(&FIELDS)?;
    for hook in &HOOKS {
        resolver.hook(hook);
    }
    if resolver.settings.rename_arguments == 1 {
        resolver.fields(&RENAME_FIELDS)?;
    }
    resolver.complete_groups();
    resolver.settings.mode_created = if capabilities.contains(Capabilities::MODE_CREATED) { MODE_CREATED } else { 0 };
    resolver.settings.typed_task = u64::from(capabilities.contains(Capabilities::TYPED_TASK));
    // Not a matter of types; the survey sets it.
    resolver.settings.second = 0;
    resolver.settings.ring = u64::from(capabilities.contains(Capabilities::RING_BUFFER));
    Ok((resolver.settings, resolver.lacks))
}

/// Whether `file.f_mode` of this kernel says that an open made its file.
///
/// The bit came with 4.19, in the commit after which `finish_open` takes three arguments and no longer a fourth for the same purpose.
pub(super) fn marks_created(release: &str, types: &Types) -> bool {
    match types.signature("finish_open") {
        Ok(signature) => signature.arguments.len() == 3,
        Err(_) => version(release).is_some_and(|version| version >= (4, 19)),
    }
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

struct Resolver<'a> {
    release: &'a str,
    types: &'a Types,
    functions: &'a Functions,
    capabilities: Capabilities,
    settings: Settings,
    lacks: Vec<Lack>,
}

impl Resolver<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), LayoutError> {
        for field in fields {
            match self.offset(field) {
                Ok(offset) => *(field.setting)(&mut self.settings) = offset,
                Err(why) => match field.need {
                    Need::Required => return Err(LayoutError::Essential { field: field.paths[0], why }),
                    need => self.lack(field.paths[0], why.to_string(), need),
                },
            }
        }
        Ok(())
    }

    fn offset(&self, field: &Field) -> Result<u64, Absence> {
        let mut reason = None;
        for path in field.paths {
            match self.types.offset(path, field.shape) {
                Ok(offset) => return Ok(offset),
                // The first name is the one that is told: it is the one that most kernels have.
                Err(absence) => reason = reason.or(Some(absence)),
            }
        }
        Err(reason.unwrap_or_else(|| Absence::NoStruct(String::new())))
    }

    fn hook(&mut self, hook: &Hook) {
        let made_by_open = self.capabilities.contains(Capabilities::MODE_CREATED);
        if hook.function == "security_inode_create" && made_by_open {
            return;
        }
        let probeable = self.functions.probeable(hook.function).map_err(|missing| missing.to_string());
        if let Err(why) = probeable.and_then(|()| self.arguments(hook)) {
            return self.lack(hook.function, why, hook.need);
        }
        if self.capabilities.contains(Capabilities::TRAMPOLINES)
            && let Err(missing) = self.functions.traceable(hook.function)
        {
            let severity = match hook.need {
                Need::Required => Severity::Trampolines,
                Need::Costs(costs) | Need::Else(costs) => Severity::Sight(costs),
            };
            self.lacks.push(Lack { what: hook.function.to_owned(), why: missing.to_string(), severity });
        }
    }

    /// Checks what a function takes and returns, and puts what the programs read of it into the settings.
    ///
    /// A single record may be missing although others are there: what made the type information of older kernels left out static functions.
    fn arguments(&mut self, hook: &Hook) -> Result<(), String> {
        match (self.signature(hook.function), &hook.form) {
            (Ok(signature), _) => self.read(hook, &signature),
            // The same in every kernel that was looked at.
            (Err(Absence::NoFunction(_)), Form::Fixed { .. }) => Ok(()),
            (Err(absence), _) => Err(absence.to_string()),
        }
    }

    /// What a function takes and returns: as its record says, or, where there is none, as the table of 4.18 says if this is one.
    ///
    /// A mask that hides the records of another kernel leaves them for this, because the table is not right for it; which functions there
    /// are is then known from the symbols alone, as on the kernel that the mask stands for.
    fn signature(&self, function: &str) -> Result<Signature, Absence> {
        let has_table = table::fits(self.release);
        let recorded = match self.capabilities.contains(Capabilities::FUNCTION_RECORDS) || !has_table {
            true => self.types.signature(function),
            false => Err(Absence::NoFunction(function.to_owned())),
        };
        match recorded {
            Err(Absence::NoFunction(_)) if has_table => table::signature(function).ok_or_else(|| Absence::NoFunction(function.to_owned())),
            recorded => recorded,
        }
    }

    /// Puts what the programs read of a function into the settings, or tells why it is not what they expect.
    fn read(&mut self, hook: &Hook, signature: &Signature) -> Result<(), String> {
        let arguments = &signature.arguments;
        let points_to = |position: usize, name: &str| arguments.get(position).is_some_and(|target| target == name);
        if arguments.len() > MOST_ARGUMENTS {
            return Err(format!("it takes {} arguments, and programs see {MOST_ARGUMENTS}", arguments.len()));
        }
        let returns_dentry = hook.function == "vfs_mkdir" && signature.returns == Returns::Pointer;
        let expected = match &hook.form {
            Form::Fixed { answer: Answer::Unread, .. } => signature.returns,
            Form::Fixed { answer: Answer::LengthAfter(_), .. } => Returns::Number(8),
            Form::Dentry { .. } if returns_dentry => Returns::Pointer,
            Form::Fixed { answer: Answer::ZeroAfter(_), .. } | Form::Dentry { .. } | Form::Rename => Returns::Number(4),
        };
        if signature.returns != expected {
            return Err(format!("it returns {}, not {expected}", signature.returns));
        }
        match &hook.form {
            Form::Dentry { dentries, followed_by, position, arguments: count } => {
                let found: Vec<usize> = (0..arguments.len()).filter(|&at| points_to(at, "dentry")).collect();
                let last = match found.last() {
                    Some(&last) if found.len() == *dentries => last,
                    _ => return Err(format!("of its arguments {} point to a dentry, not {dentries}", found.len())),
                };
                if let Some(next) = followed_by
                    && !points_to(last + 1, next)
                {
                    return Err(format!("no {next} follows its dentry"));
                }
                if hook.function == "vfs_mkdir" {
                    self.settings.mkdir_returns_dentry = u64::from(returns_dentry);
                }
                *position(&mut self.settings) = last as u64;
                *count(&mut self.settings) = arguments.len() as u64;
            }
            Form::Rename => {
                let is_one = arguments.len() == 1 && points_to(0, "renamedata");
                let is_six = arguments.len() == 6 && points_to(1, "dentry") && points_to(3, "dentry");
                if !is_one && !is_six {
                    return Err("it takes neither a renamedata nor the six arguments of 4.18".to_owned());
                }
                self.settings.rename_arguments = arguments.len() as u64;
            }
            Form::Fixed { pointers, answer } => {
                if let Some((position, name)) = pointers.iter().find(|(position, name)| !points_to(*position, name)) {
                    return Err(format!("its argument {position} is not a pointer to struct {name}"));
                }
                if let Answer::ZeroAfter(count) | Answer::LengthAfter(count) = *answer
                    && count != arguments.len()
                {
                    return Err(format!("it takes {} arguments, not {count}", arguments.len()));
                }
            }
        }
        Ok(())
    }

    /// What is of use only together is absent together.
    fn complete_groups(&mut self) {
        let settings = &mut self.settings;
        for (one, other) in
            [(&mut settings.file_mapping, &mut settings.mapping_writable), (&mut settings.kiocb_file, &mut settings.kiocb_flags)]
        {
            if *one == ABSENT || *other == ABSENT {
                (*one, *other) = (ABSENT, ABSENT);
            }
        }
    }

    fn lack(&mut self, what: &str, why: String, need: Need) {
        let severity = match need {
            Need::Required => Severity::Everything,
            Need::Costs(costs) => Severity::Sight(costs),
            Need::Else(instead) => Severity::Nothing(instead),
        };
        self.lacks.push(Lack { what: what.to_owned(), why, severity });
    }
}

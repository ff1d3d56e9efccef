//! The configuration, read again while the daemon runs.
//!
//! In: the file that the daemon was started with. Out: what changed, stream by stream. A wrong configuration changes
//! nothing, and says what is wrong with it.

use super::daemon::Core;

/// Reads the configuration again and applies it; what it did, stream by stream.
pub(super) fn apply(core: &Core) -> Result<crate::pipeline::Applied, String> {
    let Some(file) = &core.config else {
        return Err("this daemon was not started from a file, so there is nothing to read again".into());
    };
    let settings = super::load(file).map_err(|error| {
        let text = format!("{error:#}");
        tracing::error!(error = text, "the new configuration is wrong; the old one stays in force");
        text
    })?;
    let mut current = core.settings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let fixed = [
        ("box", current.box_ != settings.box_),
        ("mqtt", current.mqtt != settings.mqtt),
        ("paths", current.paths != settings.paths),
        ("rtsp", current.rtsp != settings.rtsp),
        ("limits", current.limits != settings.limits),
        ("accel", current.accel != settings.accel),
    ];
    if let Some((table, _)) = fixed.iter().find(|(_, changed)| *changed) {
        let text = format!(
            "{table}: a change here needs a restart: systemctl restart watchpost; nothing was changed"
        );
        tracing::error!(error = text, "the new configuration is not applied");
        return Err(text);
    }
    super::plugin_keys::say(&settings, &core.host);
    let applied = core.supervisor.apply(&settings);
    core.page.configure(&settings.http, &settings.paths.state);
    *current = settings;
    tracing::info!(started = ?applied.started, restarted = ?applied.restarted, stopped = ?applied.stopped,
        untouched = applied.untouched.len(), "configuration reloaded");
    Ok(applied)
}

//! `watchpost demo`: settings from `jobs::demo`, the daemon, and a subscriber that prints alerts.
//!
//! In: the demo's options. Out: text on standard output until Ctrl-C. The subscriber is a client of the broker like any
//! other; it ends with the daemon.

use std::time::Duration;

use anyhow::Context;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::sync::oneshot;

use crate::jobs::demo::{DemoArgs, alert_line, banner, folder, settings};

/// Carries the demo out.
pub(super) fn run(arguments: &DemoArgs) -> anyhow::Result<()> {
    let share = crate::share::folder().context(
        "no plugins and models beside this binary; build them with `make build`, or set WATCHPOST_SHARE",
    )?;
    let settings = settings(arguments, &folder(), &share)?;
    crate::service::logging::init("warn")?;
    super::runtime()?.block_on(async {
        let (stop, stopped) = oneshot::channel();
        eprintln!("starting: loading models, compiling plugins ...");
        let text = banner(&settings);
        let broker = settings.mqtt.listen.clone();
        let topic = format!("{}/{}/streams/+/events/#", settings.mqtt.prefix, settings.box_.name);
        let end = async {
            match arguments.seconds {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        };
        let serving = async {
            let outcome = super::daemon::serve(settings, None, end, || println!("{text}")).await;
            // The printer may have ended by itself.
            let _ = stop.send(());
            outcome
        };
        let (outcome, printed) = tokio::join!(serving, print_alerts(&broker, &topic, stopped));
        outcome.and(printed)
    })
}

/// Prints each event as it arrives, until the daemon has stopped.
async fn print_alerts(broker: &str, topic: &str, mut stopped: oneshot::Receiver<()>) -> anyhow::Result<()> {
    let (host, port) = broker.rsplit_once(':').context("the broker's address has no port")?;
    let mut options = MqttOptions::new("watchpost-demo-printer", host, port.parse()?);
    options.set_max_packet_size(1 << 20, 1 << 16);
    let (client, mut events) = AsyncClient::new(options, 16);
    let retry = Duration::from_millis(200);
    loop {
        let event = tokio::select! {
            event = events.poll() => event,
            _ = &mut stopped => return Ok(()),
        };
        match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => client.subscribe(topic, QoS::AtLeastOnce).await?,
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                if let Some(line) = alert_line(&publish.payload) {
                    println!("{line}");
                }
            }
            Ok(_) => {}
            // The broker starts beside this; a pause between tries, which the daemon's end cuts short.
            Err(_) => {
                if tokio::time::timeout(retry, &mut stopped).await.is_ok() {
                    return Ok(());
                }
            }
        }
    }
}

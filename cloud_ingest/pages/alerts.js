// The alerts that were decided, what was sent about them, to whom (masked) and with which result.

import { html } from "./elements.js";
import { has, moment, pick, t } from "./language.js";

/** The list; `stations` gives the names, `now` decides whether a time needs its date. */
export function alertList(alerts, stations, now) {
  if (alerts.length === 0) return html("p", { class: "empty" }, t("alerts_empty"));
  const names = new Map(stations.map((station) => [station.id, pick(station.name)]));
  return html("ol", { class: "alerts" }, alerts.map((alert) => item(alert, names.get(alert.station) ?? alert.station, now)));
}

function item(alert, station, now) {
  return html("li", { class: `alert ${alert.kind}`, "data-key": alert.id },
    html("div", { class: "alert-head" },
      html("span", { class: "alert-sign", "aria-hidden": "true" }, alert.kind === "raised" ? "▲" : "✓"),
      html("strong", {}, t(`alert_${alert.kind}`, { station })),
      html("time", { datetime: new Date(alert.time * 1000).toISOString() }, moment(alert.time, now))),
    html("p", { class: "alert-text" }, pick(alert.text)),
    alert.via && html("p", { class: "alert-via" }, t("alert_via", { gateway: alert.via })),
    alert.deliveries.length === 0
      ? html("p", { class: "delivery" }, t("delivery_none"))
      : html("ul", { class: "deliveries" }, alert.deliveries.map((delivery) => deliveryItem(delivery, now))));
}

function deliveryItem(delivery, now) {
  const to = delivery.address_masked ? ` ${t("delivery_to", { address: delivery.address_masked })}` : "";
  const parts = [`${delivery.channel.toUpperCase()}${to}`, statusText(delivery, now)];
  if (delivery.via) parts.push(t("delivery_via", { gateway: delivery.via }));
  if (delivery.attempts > 1) parts.push(t("delivery_attempts", { count: delivery.attempts }));
  return html("li", { class: `delivery status-${delivery.status}` },
    html("details", {}, html("summary", {}, parts.join(" · ")),
      html("p", { class: "sms" }, html("span", { class: "visually-hidden" }, `${t("delivery_text")}: `), delivery.text)));
}

// A status this page has no words for is shown as the service names it, rather than guessed.
function statusText(delivery, now) {
  const key = `delivery_${delivery.status}`;
  if (!has(key)) return delivery.status;
  return t(key, { time: delivery.sent_at == null ? "–" : moment(delivery.sent_at, now) });
}

/** A strip per station that is above its threshold now, latest first; the latest with its text when `alerts` has it. */
export function presentAlerts(stations, alerts, now) {
  const above = stations.filter((station) => station.alert).sort((a, b) => b.alert.since - a.alert.since);
  return above.map((station, place) => {
    const sent = place === 0 && alerts.find((each) => each.kind === "raised" && each.station === station.id && each.rule === station.alert.rule);
    return html("p", { class: "alert-strip", "data-key": station.id },
      html("span", { class: "alert-sign", "aria-hidden": "true" }, "▲"),
      html("span", {}, html("strong", {}, t("alert_now", { station: pick(station.name) })), " ",
        t("alert_now_since", { time: moment(station.alert.since, now) }), sent && ` ${pick(sent.text)}`));
  });
}

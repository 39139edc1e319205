// Numbers and times as people read them, always with their unit.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export const count = (value) => whole.format(value);
export const rate = (value) => `${value < 100 ? short.format(value) : whole.format(value)}/s`;
export const megabytes = (value) => `${value < 100 ? short.format(value) : whole.format(value)} MB`;
export const cpu = (value) => `${value < 10 ? value.toFixed(1) : whole.format(value)} %`;

/** A share of 1 as per cent, never rounded up to 100 %. */
export function share(value, digits = 2) {
  if (value >= 1) return "100 %";
  const scale = 10 ** digits;
  return `${(Math.floor(value * 100 * scale) / scale).toFixed(digits)} %`;
}

export function micros(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1_000) return `${whole.format(value)} µs`;
  if (value < 1_000_000) return `${short.format(value / 1_000)} ms`;
  return `${short.format(value / 1_000_000)} s`;
}

export function age(ms) {
  if (!Number.isFinite(ms)) return "–";
  const s = Math.max(0, ms) / 1_000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${whole.format(s)} s`;
  if (s < 7_200) return `${whole.format(s / 60)} min`;
  return `${whole.format(s / 3_600)} h`;
}

const minute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

/** A time on an axis whose labels are so many seconds apart. */
export function tick(ms, step_s) {
  if (step_s < 60) return clock.format(new Date(ms));
  return (step_s < 86_400 ? minute : day).format(new Date(ms));
}

export const time = (ms) => clock.format(new Date(ms));

/** A decimal text with thousands set apart; its digits stay as the chain has them. */
export function amount(text) {
  const [units, fraction] = text.split(".");
  const apart = units.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return fraction === undefined ? apart : `${apart}.${fraction}`;
}

/** Six significant digits of a number that only measures. */
export const measure = (value) => new Intl.NumberFormat("en", { maximumSignificantDigits: 6 }).format(value);

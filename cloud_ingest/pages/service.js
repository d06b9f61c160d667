// Asking the service, again and again, and knowing what time it is there.

const TIMEOUT_MS = 8000;

/** The service did not answer, or not with what was asked; `status` is 0 when there was no answer at all. */
export class ServiceError extends Error {
  constructor(path, status, reason) {
    super(`${path}: ${reason}`);
    this.status = status;
  }
}

/** The JSON at `path`. Throws ServiceError. */
export async function ask(path) {
  const control = new AbortController();
  const timer = setTimeout(() => control.abort(), TIMEOUT_MS);
  try {
    const response = await fetch(path, { signal: control.signal, headers: { accept: "application/json" } });
    if (!response.ok) throw new ServiceError(path, response.status, `HTTP ${response.status}`);
    return await response.json();
  } catch (error) {
    throw error instanceof ServiceError ? error : new ServiceError(path, 0, error.message);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Ask for path() every `everyMs`, first at once. Nothing is asked while the page is hidden (a farmer pays for the
 * data); it is asked at once when the page is seen again. `.now()` asks out of turn; an answer overtaken by a later
 * question is dropped.
 */
export function poll(path, everyMs, onAnswer, onFailure) {
  let timer = null;
  let turn = 0;
  async function once() {
    clearTimeout(timer);
    const mine = ++turn;
    const asked = path();
    try {
      const answer = asked && (await ask(asked));
      if (mine === turn && asked) onAnswer(answer);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      if (mine === turn) onFailure(error);
    } finally {
      if (mine === turn && !document.hidden) timer = setTimeout(once, everyMs);
    }
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : once()));
  once();
  return { now: once };
}

const PACE_WINDOW_MS = 60_000;

/** The service's clock between its answers: what it said last, moving on at the pace its last minute of answers had. */
export class ServiceClock {
  #answers = [];

  observe(seconds, atMs = performance.now()) {
    this.#answers = this.#answers.filter((answer) => atMs - answer.atMs < PACE_WINDOW_MS);
    this.#answers.push({ seconds, atMs });
  }

  get isSet() {
    return this.#answers.length > 0;
  }

  now(atMs = performance.now()) {
    const first = this.#answers[0];
    const last = this.#answers[this.#answers.length - 1];
    const realS = (last.atMs - first.atMs) / 1000;
    const pace = realS > 2 ? (last.seconds - first.seconds) / realS : 1;
    return last.seconds + (pace * (atMs - last.atMs)) / 1000;
  }

  /** Real seconds since the service last answered. */
  silence(atMs = performance.now()) {
    return (atMs - this.#answers[this.#answers.length - 1].atMs) / 1000;
  }
}

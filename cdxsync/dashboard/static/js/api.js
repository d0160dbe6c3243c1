/** Calls of the admin API, and how their failures look. */

import { askAdminKey } from "./admin_key.js";

/** `/admin/`, wherever the server or a proxy before it has put it. */
const BASE = new URL("../../", import.meta.url);

/** In memory only: it is asked for again after a reload. */
let adminKey = "";

/** A call that failed: `status` is 0 when there was no answer; `fields` has the texts for each wrong field. */
export class ApiError extends Error {
  constructor(message, { status = 0, fields = {}, requestId = "" } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.fields = fields;
    this.requestId = requestId;
  }
}

/**
 * `data` of the answer. Throws `ApiError`, or an `AbortError` when the signal was given.
 *
 * @param {string} method
 * @param {string} path relative to `/admin/`
 * @param {{query?: Record<string, any>, body?: any, signal?: AbortSignal}} [options]
 */
export async function call(method, path, options = {}) {
  let response = await send(method, path, options);
  while (response.status === 401) {
    adminKey = await askAdminKey((await read(response)).message ?? "", adminKey !== "");
    response = await send(method, path, options);
  }
  const answer = await read(response);
  if (response.ok && answer.status === "ok") return answer.data;
  throw new ApiError(answer.message ?? `The server answered ${response.status}`, {
    status: response.status,
    fields: answer.errors ?? {},
    requestId: answer.request_id ?? response.headers.get("X-Request-Id") ?? "",
  });
}

/** `GET`; see `call`. */
export const get = (path, query, signal) => call("GET", path, { query, signal });

/** `POST`; see `call`. */
export const post = (path, body = {}) => call("POST", path, { body });

/** `DELETE`; see `call`. */
export const remove = (path) => call("DELETE", path);

/**
 * @param {string} method
 * @param {string} path
 * @param {{query?: Record<string, any>, body?: any, signal?: AbortSignal}} options
 */
async function send(method, path, { query, body, signal }) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, String(value));
  }
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json", "X-Cdxsync-Request": "dashboard" };
  if (adminKey) headers["X-Admin-Key"] = asHeader(adminKey);
  if (body !== undefined) headers["Content-Type"] = "application/json";
  /** @type {RequestInit} */
  const options = { method, headers, signal, cache: "no-store", credentials: "same-origin", redirect: "error" };
  try {
    return await fetch(url, body === undefined ? options : { ...options, body: JSON.stringify(body) });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Is it running, and is your certificate still valid?");
  }
}

/** A text as a header carries it: its bytes in UTF-8, each written as one character; `fetch` refuses others. */
function asHeader(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

async function read(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    return {};
  }
}

/** Whether an error only says that its page was left. */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}

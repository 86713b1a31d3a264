import type { IncomingMessage, ServerResponse } from 'node:http';
import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import type { ErrorCode } from '@dumont/shared/util/errors.ts';

/** What the gateway says itself instead of the workload. */
export interface Answer {
  readonly status: 400 | 401 | 404 | 502 | 503 | 508;
  readonly code: ErrorCode;
  /** One sentence for people. */
  readonly detail: string;
  readonly hint?: string;
  /** The same may work after this many seconds; a page then loads itself again. */
  readonly retryAfterS?: number;
}

/** Answers a request: a page for a browser, a problem document (RFC 9457) for a program. */
export function sendAnswer(request: IncomingMessage, response: ServerResponse, answer: Answer): void {
  const { headers, body } = render(request.headers.accept, answer);
  // A body that nobody reads would stand between this answer and the next request.
  if (!request.complete) response.shouldKeepAlive = false;
  response.writeHead(answer.status, headers);
  response.end(request.method === 'HEAD' ? undefined : body);
}

/** The same to a caller that asked for an upgrade. */
export function sendAnswerRaw(request: IncomingMessage, socket: Duplex, answer: Answer): void {
  const { headers, body } = render(request.headers.accept, answer);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  const head = [`HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status] ?? ''}`, ...lines, 'Connection: close'];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}

function render(accept: string | undefined, answer: Answer): { headers: Record<string, string>; body: string } {
  const isPage = accept?.includes('text/html') ?? false;
  const body = isPage ? page(answer) : problem(answer);
  return {
    body,
    headers: {
      'Content-Type': isPage ? 'text/html; charset=utf-8' : 'application/problem+json',
      'Content-Length': String(Buffer.byteLength(body)),
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
      'Content-Security-Policy': "default-src 'none'; style-src 'unsafe-inline'",
      ...(answer.retryAfterS === undefined ? {} : { 'Retry-After': String(answer.retryAfterS) }),
      ...(answer.status === 401 && { 'WWW-Authenticate': 'Dumont-Gateway' }),
    },
  };
}

function problem({ status, code, detail, hint }: Answer): string {
  const type = `urn:dumont:problem:${code.toLowerCase().replaceAll('_', '-')}`;
  return JSON.stringify({ type, title: STATUS_CODES[status], status, detail, code, ...(hint && { hint }) });
}

function page({ status, detail, hint, retryAfterS }: Answer): string {
  const refresh = retryAfterS === undefined ? '' : `<meta http-equiv="refresh" content="${retryAfterS}">`;
  const more = hint === undefined ? '' : `<p>${escapeHtml(hint)}</p>`;
  const again = retryAfterS === undefined ? '' : '<p><small>This page loads itself again.</small></p>';
  return `<!doctype html><html lang="en"><head><meta charset="utf-8">${refresh}
<meta name="viewport" content="width=device-width"><title>${status} · Dumont</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:20vh auto;padding:0 1rem;color-scheme:light dark}</style>
</head><body><h1>${escapeHtml(STATUS_CODES[status] ?? '')}</h1><p>${escapeHtml(detail)}</p>${more}${again}</body></html>
`;
}

function escapeHtml(text: string): string {
  const names: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  };
  return text.replaceAll(/[&<>"']/g, (mark) => names[mark] ?? mark);
}

import { IngotError } from '../../base/index.ts';

/** A device that ssh reaches. */
export interface SshTarget {
  /** `user@host` or `host`, as ssh takes it; an IPv6 address has no brackets. */
  readonly destination: string;
  readonly port: number | undefined;
  /** How people wrote it. */
  readonly name: string;
}

const FORM =
  /^ssh:\/\/(?:([^@/]+)@)?(?:\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|([^@:/[\]]+))(?::(\d{1,5}))?\/?$/;

/**
 * Parses `ssh://[user@]host[:port]`; the host may be a name of the user's ssh configuration, or an
 * IPv6 address in brackets.
 *
 * @throws IngotError `request-invalid`
 */
export function parseSshTarget(url: string): SshTarget {
  const [, user, address, host, digits] = FORM.exec(url) ?? [];
  const name = address ?? host;
  const port = digits === undefined ? undefined : Number(digits);
  const isOption = name?.startsWith('-') === true || user?.startsWith('-') === true;
  if (name === undefined || isOption || port === 0 || (port !== undefined && port > 65535)) {
    throw new IngotError(
      'request-invalid',
      `${JSON.stringify(url)} is not of the form ssh://[user@]host[:port]`,
      { url },
    );
  }
  return {
    destination: user === undefined ? name : `${decodeURIComponent(user)}@${name}`,
    port,
    name: url,
  };
}

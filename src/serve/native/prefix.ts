/** Where the native API lies. */
export const NATIVE_PREFIX = '/api/ingot/v1';

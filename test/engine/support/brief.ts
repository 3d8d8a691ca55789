/**
 * Whether the longest tests take fewer of their cases: KVTIER_ENGINE_TESTS=brief, as CI does, whose time is limited. Without
 * it, `npm run test:engine` runs all.
 */
export const brief: boolean = process.env.KVTIER_ENGINE_TESTS === 'brief'

import { expect, it, vi } from 'vitest'

import { TenantTable } from '../../lib/blocks/tenant-table.js'

it('gives every tag a number and the number its tag', () => {
  const tenants = new TenantTable(2)
  const numbers = [7, 4_000_000_000, 7, 0].map((tag) => tenants.numberOf(tag))
  expect(numbers).toEqual([0, 1, 0, 2])
  expect([0, 1, 2].map((number) => tenants.tagOf(number))).toEqual([7, 4_000_000_000, 0])
  expect(tenants.find(8)).toBe(-1)
})

it('forgets a tenant with its last block and gives its number to another', () => {
  const tenants = new TenantTable(1)
  for (let tag = 0; tag < 1000; tag++) {
    const number = tenants.numberOf(tag)
    tenants.join(number, 2)
    expect(number).toBe(0)
    tenants.leave(number)
    tenants.leave(number)
  }
  expect(tenants.size).toBe(0)
})

it('remembers a tenant that has a quota, with blocks or without', () => {
  const tenants = new TenantTable(2)
  const number = tenants.numberOf(7)
  tenants.setQuota(number, 1, 5, 3)
  tenants.join(number, 1)
  tenants.leave(number)
  expect(tenants.find(7)).toBe(number)
  expect([tenants.quotaOf(number, 0), tenants.quotaOf(number, 1)]).toEqual([Number.POSITIVE_INFINITY, 5])
  expect([tenants.partitionOf(number, 0), tenants.partitionOf(number, 1)]).toEqual([0, 3])
  tenants.setQuota(number, 1, Number.POSITIVE_INFINITY, 0)
  tenants.forgetIfUnused(number)
  expect(tenants.find(7)).toBe(-1)
})

it('counts slots by tier', () => {
  const tenants = new TenantTable(2)
  const number = tenants.numberOf(7)
  tenants.addUse(number, 1, 3)
  tenants.addUse(number, 1, -1)
  expect([tenants.usedBy(number, 0), tenants.usedBy(number, 1)]).toEqual([0, 2])
})

it('gives every number that became free to one tenant, without looking through the others', () => {
  const tenants = new TenantTable(1)
  const numbers = Array.from({ length: 100 }, (_, tag) => tenants.numberOf(tag))
  for (const number of numbers) tenants.join(number, 1)
  for (const number of [7, 99, 0, 42]) tenants.leave(number)
  const searches = [vi.spyOn(Array.prototype, 'indexOf'), vi.spyOn(Array.prototype, 'findIndex')]
  const again = [200, 201, 202, 203, 204].map((tag) => tenants.numberOf(tag))
  const looked = searches.map((search) => search.mock.calls.length)
  vi.restoreAllMocks()
  expect(looked).toEqual([0, 0])
  expect(again.toSorted((a, b) => a - b)).toEqual([0, 7, 42, 99, 100])
  expect(again.map((number) => tenants.tagOf(number))).toEqual([200, 201, 202, 203, 204])
  expect(tenants.size).toBe(101)
})

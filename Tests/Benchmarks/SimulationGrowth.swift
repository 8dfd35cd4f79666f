// SPDX-License-Identifier: Apache-2.0
// The simulation's figures: what a connection and a device cost must not grow with how many there are.
import Glibc
import LinuxIO
import Migration
import Simulation
import Synchronization
import Transport

/// Microseconds of a processor that this process has used: others on the machine do not count.
private func processorMicroseconds() -> Double {
  var time = timespec()
  if unsafe clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) != 0 { fail("there is no clock of this process") }
  return Double(time.tv_sec) * 1_000_000 + Double(time.tv_nsec) / 1000
}

/// Plays a move of a world to its end. Returns microseconds of a processor, setting up included.
private func play(_ world: WorldDescription, seed: UInt64) throws -> Double {
  let begin = processorMicroseconds()
  var simulation = try SimulatedWorld(Scenario(world: world, seed: seed), checksum: .xxh3)
  let summary = simulation.run()
  let took = processorMicroseconds() - begin
  if !summary.isVerified { fail("a simulated move failed: \(String(describing: summary.violations.first))") }
  return took
}

/// What one of `count` costs: the least of some rounds, because others on the machine cost caches and never save any.
private func cost(of count: Int, _ world: WorldDescription, rounds: Int) throws -> Double {
  var least = Double.infinity
  for _ in 0..<rounds { least = min(least, try play(world, seed: 1) / Double(count)) }
  return least
}

private func report(_ what: String, _ costs: [(count: Int, cost: Double)], limit: (Int) -> Double) -> Bool {
  let first = costs[0]
  print("\(what): \(decimals(first.cost, 1)) us each with \(first.count)")
  var holds = true
  for (count, cost) in costs.dropFirst() {
    print("  with \(count): \(decimals(cost, 1)) us each, \(decimals(cost / first.cost)) times as much")
    if !promise(cost / first.cost <= limit(count), "at most \(decimals(limit(count))) times as much") { holds = false }
  }
  return holds
}

/// A whole move with so many connections, five requests on each: the guest is set up, answers, is moved while its NIC is as
/// busy as can be, and answers what is left.
///
/// No step grows with their number: with 10,000 connections the program carries out 1.06 times as many instructions for each
/// as with 100 (counted by callgrind). But a hundred fit into a processor's caches, ten thousand do not, and a hundred thousand
/// take a gibibyte of memory: the limit for these leaves room for that.
private func benchConnections() throws -> Bool {
  var costs: [(count: Int, cost: Double)] = []
  for (count, rounds) in [(100, 15), (1000, 5), (10_000, 3), (100_000, 2)] {
    var world = QuiescingSweep.world(queuePairs: count)
    world.requests = 5
    costs.append((count, try cost(of: count, world, rounds: rounds)))
  }
  return report("a connection of a simulated move", costs) { $0 < 10_000 ? 1.3 : 1.6 }
}

/// A whole move of NICs and GPUs with two connections each.
private func benchDevices() throws -> Bool {
  var costs: [(count: Int, cost: Double)] = []
  for (nics, rounds) in [(1, 15), (4, 9), (32, 3)] {
    var world = BuiltInWorld.nicGPU.description
    world.nics = nics
    world.connections = 2
    // As much of the channel for each device.
    world.channel.bytesPerMicrosecond = 3125 * UInt64(nics)
    costs.append((2 * nics, try cost(of: 2 * nics, world, rounds: rounds)))
  }
  return report("a device of a simulated move", costs) { _ in 1.3 }
}

private final class NextSeed: Sendable {
  let value = Atomic(0)
  let broken = Atomic(0)
}

/// A campaign of runs with faults on all processors, judged; a tenth of it is played.
private func benchCampaign() throws -> Bool {
  let played = 100
  let next = NextSeed()
  let judge = Judge()
  let begin = processorMicroseconds()
  var threads: [BlockingThread] = []
  for _ in 0..<max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) {
    threads.append(
      try BlockingThread(name: "campaign") {
        while true {
          let number = next.value.add(1, ordering: .relaxed).oldValue
          if number >= played { return }
          let drawn = Scenario.withFaults(world: BuiltInWorld.nicGPU.description, seed: UInt64(number + 1))
          guard var simulation = try? SimulatedWorld(drawn.scenario, checksum: .xxh3) else {
            next.broken.add(1, ordering: .relaxed)
            continue
          }
          _ = simulation.run()
          if !simulation.summary(judge).violations.isEmpty { next.broken.add(1, ordering: .relaxed) }
        }
      })
  }
  for thread in threads { thread.join() }
  let seconds = (processorMicroseconds() - begin) / 1_000_000 * 1000 / Double(played * threads.count)
  print(
    "1,000 seeds of nic-gpu with faults, judged: \(decimals(seconds, 1)) s of each of \(threads.count) processors (from "
      + "\(played) seeds)")
  let areWhole = promise(next.broken.load(ordering: .relaxed) == 0, "no rule broken")
  return promise(seconds <= 60, "a thousand runs a minute") && areWhole
}

func benchSimulation() throws -> Bool {
  let results = [try benchDevices(), try benchCampaign(), try benchConnections()]
  return !results.contains(false)
}

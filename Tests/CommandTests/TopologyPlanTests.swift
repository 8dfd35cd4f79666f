// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import vfio_ferry

struct TopologyPlanTests {
  @Test("a plan says who goes where in which step, why, and the way back")
  func plan() throws {
    let expected = """
      Devices
        0000:04:00.1  stop-copy,p2p,pre-copy  usually, with the driver mlx5_vfio_pci
        0000:03:00.0  stop-copy               assumed (--assume)

      Quiesce domains: devices that can reach each other, directly or through others
        1  0000:04:00.1, 0000:03:00.0

      While the guest runs
        1  reading ahead  0000:04:00.1  running -> pre-copy

      To a stop, once no vCPU runs: all devices of a step at once, and each step when the one before has ended
        1  ending peer transfers                         0000:04:00.1  pre-copy -> pre-copy-p2p
        2  stopping devices without P2P states, round 1  0000:03:00.0  running -> stop
        3  stopping all                                  0000:04:00.1  pre-copy-p2p -> stop-copy
                                                         0000:03:00.0  stop -> stop-copy

      Why those without P2P states stop in this order
        round 1: 0000:03:00.0: no other without P2P states can start transfers to it

      Running again: the same in reverse, and so is the way back from a failure
        1  closing data sessions                           0000:04:00.1  stop-copy -> stop
                                                           0000:03:00.0  stop-copy -> stop
        2  answering peers                                 0000:04:00.1  stop -> running-p2p
        3  starting devices without P2P states of round 1  0000:03:00.0  stop -> running
        4  starting all                                    0000:04:00.1  running-p2p -> running

      """
    #expect(
      try TopologyBench.small().output(["--plan", "04:00.1", "03:00.0", "--assume", "03:00.0=stop-copy"]) == expected)
  }

  @Test("of two devices without P2P states the one that starts transfers stops first, with the link that says so")
  func rounds() throws {
    let output = try TopologyBench.small().output([
      "--plan", "03:00.0", "05:00.0", "--assume", "03:00.0=stop-copy", "--assume", "05:00.0=stop-copy,pre-copy",
      "--no-link", "03:00.0,05:00.0",
    ])
    #expect(
      output.contains(
        """
          1  stopping devices without P2P states, round 1  0000:05:00.0  pre-copy -> stop-copy
          2  stopping devices without P2P states, round 2  0000:03:00.0  running -> stop
        """))
    #expect(
      output.contains("round 2: 0000:03:00.0, after 0000:05:00.0, which can start transfers to it (through the root"))
  }

  private static let circle = [
    "--plan", "03:00.0", "05:00.0", "--assume", "03:00.0=stop-copy", "--assume", "05:00.0=stop-copy",
  ]

  @Test("what no order stops is refused with the circle and what would allow it, and exit status 3")
  func refusal() throws {
    let (out, failure) = try TopologyBench.small().failure(Self.circle)
    #expect(failure?.status == .refused)
    #expect(out.contains("0000:03:00.0 -> 0000:05:00.0  through the root complex (pci0000:00)"))
    #expect(out.contains("0000:05:00.0 -> 0000:03:00.0  through the root complex (pci0000:00)"))
    #expect(out.contains("--no-link 0000:05:00.0,0000:03:00.0"))
  }

  @Test("in JSON a refusal is an object with the circle")
  func refusalJSON() throws {
    let (out, failure) = try TopologyBench.small().failure(Self.circle + ["-j"])
    #expect(failure?.status == .refused)
    let value = try #require(JSONSerialization.jsonObject(with: Data(out.utf8)) as? [String: Any])
    let refusal = try #require(value["refusal"] as? [String: Any])
    #expect(
      (refusal["cycle"] as? [[String: Any]])?.compactMap { $0["path"] as? String } == ["redirected", "redirected"])
  }

  @Test("in JSON a plan has the same steps")
  func planJSON() throws {
    let text = try TopologyBench.small().output([
      "--plan", "04:00.1", "03:00.0", "--assume", "03:00.0=stop-copy", "--flush", "-j",
    ])
    let value = try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    #expect(value["domains"] as? [[String]] == [["0000:04:00.1", "0000:03:00.0"]])
    #expect(value["flush"] as? Bool == true)
    let steps = try #require(value["stop_steps"] as? [[String: Any]])
    #expect(
      steps.map { ($0["moves"] as? [[String: String]])?.map { $0["to"] } } == [
        ["pre-copy-p2p"], ["stop"], ["stop-copy", "stop-copy"],
      ])
    #expect(value["refusal"] is NSNull)
  }

  @Test("in JSON steps have the names that save and load have for them, and rounds are numbers")
  func stepNames() throws {
    let text = try TopologyBench.small().output([
      "--plan", "04:00.1", "03:00.0", "--assume", "03:00.0=stop-copy", "-j",
    ])
    let value = try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    func names(_ key: String) throws -> [String] {
      try #require(value[key] as? [[String: Any]]).map { step in
        "\(step["step"] ?? "")" + ((step["round"] as? Int).map { " \($0)" } ?? "")
      }
    }
    #expect(try names("stop_steps") == ["end-peer-transfers", "stop-others 1", "stop-all"])
    #expect(try names("start_steps") == ["leave-data", "answer-peers", "start-others 1", "start-all"])
    #expect((value["pre_copy"] as? [String: Any])?["step"] as? String == "enter-pre-copy")
  }

  @Test("a device of which nobody says what it supports is refused, and told how to say it")
  func unknownFeatures() throws {
    let failure = try TopologyBench.small().failure(["--plan", "04:00.1", "03:00.0"]).failure
    #expect(failure?.status == .refused)
    #expect(failure?.message.contains("--assume 0000:03:00.0=stop-copy,p2p") == true)
  }

  @Test(
    "--assume that makes no sense is misuse",
    arguments: ["03:00.0", "03:00.0=", "03:00.0=p2p", "03:00.0=stop-copy,dirty", "05:00.0=stop-copy", "x=stop-copy"])
  func misuse(text: String) throws {
    let failure = try TopologyBench.small().failure(["--plan", "03:00.0", "--assume", text]).failure
    #expect(failure?.status == .misuse)
  }
}

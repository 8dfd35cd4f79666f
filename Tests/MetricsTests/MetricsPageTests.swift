// SPDX-License-Identifier: Apache-2.0
import Metrics
import Testing

struct MetricsPageTests {
  @Test("a metric has its help, its type and a line for each set of labels")
  func counter() {
    var page = MetricsPage(common: [.init("helper", "vm1")])
    page.add("a_total", .counter, "Things.", [([.init("kind", "x")], .count(3)), ([], .count(0))])
    page.add("b_seconds", .gauge, "How long.", .microseconds(1_500_000))
    page.add("c", .gauge, "Nothing.", [])
    #expect(
      page.text == """
        # HELP a_total Things.
        # TYPE a_total counter
        a_total{helper="vm1",kind="x"} 3
        a_total{helper="vm1"} 0
        # HELP b_seconds How long.
        # TYPE b_seconds gauge
        b_seconds{helper="vm1"} 1.5

        """)
  }

  @Test(
    "a duration is written in seconds, exactly",
    arguments: [
      (0, "0"), (1, "0.000001"), (100, "0.0001"), (999_999, "0.999999"), (1_000_000, "1"), (1_000_001, "1.000001"),
      (UInt64.max, "18446744073709.551615"),
    ])
  func seconds(value: UInt64, text: String) {
    var page = MetricsPage()
    page.add("x_seconds", .gauge, "X.", .microseconds(value))
    #expect(page.text.hasSuffix("\nx_seconds \(text)\n"))
  }

  @Test("what would end a line or a value is escaped")
  func escapes() {
    var page = MetricsPage()
    page.add("x", .gauge, "a\\b\nc\"d", [([.init("l", "a\\b\nc\"d")], .count(1))])
    #expect(page.text == "# HELP x a\\\\b\\nc\"d\n# TYPE x gauge\nx{l=\"a\\\\b\\nc\\\"d\"} 1\n")
  }

  @Test("a histogram counts in each bucket what is no longer than its end, and all of it at last")
  func histogram() {
    var histogram = DurationHistogram()
    for duration in [0, 100, 101, 10_000_000, 10_000_001] as [UInt64] { histogram.add(duration) }
    var page = MetricsPage()
    page.add("x_seconds", "X.", [([.init("to", "stop")], histogram)])
    let lines = page.text.split(separator: "\n").map(String.init)
    #expect(lines.count == 2 + DurationHistogram.bounds.count + 3)
    #expect(lines[1] == "# TYPE x_seconds histogram")
    #expect(lines[2] == #"x_seconds_bucket{to="stop",le="0.0001"} 2"#)
    #expect(lines[3] == #"x_seconds_bucket{to="stop",le="0.00025"} 3"#)
    #expect(
      lines.suffix(4) == [
        #"x_seconds_bucket{to="stop",le="10"} 4"#, #"x_seconds_bucket{to="stop",le="+Inf"} 5"#,
        #"x_seconds_sum{to="stop"} 20.000202"#, #"x_seconds_count{to="stop"} 5"#,
      ])
  }
}
